"""HTTP/2 with one client: the frames that come, h2's state machine, and the transport that takes what it makes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from h2.errors import ErrorCodes

from sluice.gateway.grpc.frames import ErrorCode, Frames, goaway
from sluice.gateway.grpc.limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, GrpcLimits
from sluice.gateway.grpc.machine import machine_for
from sluice.gateway.messages import Header

LAST_STREAM = 2**31 - 1
"""The highest id that a stream can have."""

PING_DATA = b"sluice\x00\x00"


class Http2:
    """What the parts of one connection share. It knows streams, and nothing of calls.

    `machine` only gathers the frames that it makes: `flush` writes them, and `flush_soon` writes all that were made in
    one turn of the loop together.
    """

    __slots__ = ("_flushing", "_loop", "ended", "frames", "greeted", "machine", "paused", "pinged_s", "transport")

    transport: asyncio.Transport

    def __init__(self, limits: GrpcLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self.frames = Frames(limits.max_block_bytes, limits.min_ping_interval_s, self._loop.time())
        self.machine = machine_for(limits)
        self.paused = False
        """Whether the network takes no more for now."""
        self.ended = False
        """Whether nothing is read or sent any more."""
        self.greeted = False
        self.pinged_s = math.inf
        """When the ping was sent that is not answered yet, if there is one."""
        self._flushing = False

    def greet(self) -> None:
        """Send our settings. Clients send their first call without waiting for them."""
        self.greeted = True
        self.machine.initiate_connection()
        self.machine.increment_flow_control_window(CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES)

    def flush_soon(self) -> None:
        """Write what was made, once for all that is made in this turn."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was made."""
        self._flushing = False
        data = self.machine.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def is_open(self, stream_id: int) -> bool:
        """Whether a stream can be written to: what has come may hold its end, which is not looked at yet."""
        stream = self.machine.streams.get(stream_id)
        return stream is not None and not stream.closed

    def end_stream(self, stream_id: int, headers: Sequence[Header], *, client_ended: bool = False) -> None:
        """Send the last headers of a stream. Unless the client has ended its side, too, it is told to stop sending."""
        self.machine.send_headers(stream_id, headers, end_stream=True)
        self.frames.sent(1)
        if not client_ended and self.is_open(stream_id):
            self.machine.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self.flush_soon()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream without an answer, unless it is over."""
        if not self.ended and self.is_open(stream_id):
            self.machine.reset_stream(stream_id, int(code))
            self.flush_soon()

    def ping(self) -> None:
        """Ask whether the client is there."""
        self.machine.ping(PING_DATA)
        self.pinged_s = self._loop.time()

    def go_away(self, code: ErrorCode, told: bytes = b"", last_stream: int | None = None) -> None:
        """Tell the client, after all else, that streams beyond the last one that came are not answered.

        Or beyond `last_stream`. h2's own GOAWAY would end the streams that are open.
        """
        if not self.greeted:
            self.greet()
        self.flush()
        if last_stream is None:
            last_stream = self.machine.highest_inbound_stream_id
        self.transport.write(goaway(last_stream, code, told))
