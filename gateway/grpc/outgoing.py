"""What the calls of a connection send: put into frames as the client lets us, and handed over once in a turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from h2.errors import ErrorCodes

from sluice.gateway.connections.deadlines import Timed
from sluice.gateway.grpc import heads
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.calls_underway import CallsUnderway
from sluice.gateway.grpc.frames import ErrorCode, Frames
from sluice.gateway.grpc.limits import MAX_FRAME_BYTES
from sluice.gateway.grpc.machine import machine_for
from sluice.gateway.grpc.methods import CallEnded
from sluice.gateway.grpc.server_context import ServerContext
from sluice.gateway.messages import Header

FRAMES_AT_ONCE = 4
"""Frames of long answers that are put together before they are handed over."""


class Outgoing(CallsUnderway, Timed):
    """Sends what calls have to send; `Lifetime` builds on it.

    What the client's windows or the network have no room for waits, call beside call, and counts in `held` until then.
    """

    _transport: asyncio.Transport

    def __init__(self, server: ServerContext) -> None:
        super().__init__(server)
        self._loop = asyncio.get_running_loop()
        limits = server.limits
        now_s = self._loop.time()
        self._frames = Frames(limits.max_block_bytes, limits.min_ping_interval_s, now_s)
        self._machine = machine_for(limits)
        # The network takes no more for now.
        self._paused = False
        # Nothing is read or sent any more.
        self._ended = False
        self._flushing = False
        self._pumping = False
        self.deadline = now_s + min(limits.wire.request_read_timeout_s, limits.keepalive_time_s)

    def _soon(self) -> None:
        """Hand over what was written, once for all that is written in this turn."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._machine.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _pump(self) -> None:
        """Send what waits, one frame of each call after another, as far as client and network take it."""
        self._pumping = False
        if self._ended:
            return
        sending = deque(self._sending.values())
        frames = 0
        while sending and not self._paused and self._machine.outbound_flow_control_window > 0:
            call = sending.popleft()
            if self._send_frame(call):
                sending.append(call)
            frames += 1
            if frames % FRAMES_AT_ONCE == 0:
                self._flush()
        self._soon()

    def _pump_soon(self) -> None:
        """The client takes more: send it when others have had a turn, once for all that it says until then."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _send_frame(self, call: ServerCall) -> bool:
        """Send one frame of what waits in a call; whether it was sent and there is more."""
        if not call.unsent or not self._is_open(call.stream_id):
            return False
        stream_id, view = call.stream_id, call.unsent[0]
        size = min(self._machine.local_flow_control_window(stream_id), MAX_FRAME_BYTES, len(view))
        if size <= 0 and len(view):
            return False
        self._machine.send_data(stream_id, view[:size])
        self._frames.sent(1)
        self._server.held.now_bytes -= size
        call.write_deadline_s = self._loop.time() + self._server.limits.wire.write_timeout_s
        if size < len(view):
            call.unsent[0] = view[size:]
            return True
        call.unsent.popleft()
        call.progressed()
        if call.unsent:
            return True
        del self._sending[stream_id]
        if call.trailers is not None:
            self._end(call)
        return False

    def _post(self, call: ServerCall, body: bytes, packed: bool) -> None:
        """Send a message, or let it wait for its turn."""
        machine, stream_id = self._machine, call.stream_id
        if not self._is_open(stream_id):
            return
        if not call.head_sent:
            call.head_sent = True
            if call.encoding == b"identity":
                machine.send_headers(stream_id, heads.ANSWER)
            else:
                # Be the first message too short to be compressed: a later one may not be.
                machine.send_headers(stream_id, [*heads.ANSWER, (b"grpc-encoding", call.encoding), heads.ENCODINGS])
        framed = (b"\x01" if packed else b"\x00") + len(body).to_bytes(4, "big") + body
        size = len(framed)
        if (
            not call.unsent
            and size <= MAX_FRAME_BYTES
            and not self._paused
            and size <= machine.local_flow_control_window(stream_id)
        ):
            machine.send_data(stream_id, framed)
            self._frames.sent(2)
            self._soon()
            return
        self._server.held.now_bytes += size
        call.unsent.append(memoryview(framed))
        if stream_id not in self._sending:
            self._sending[stream_id] = call
            call.write_deadline_s = self._loop.time() + self._server.limits.wire.write_timeout_s
            self._due(call.write_deadline_s)
        self._pump()

    def _finish(self, call: ServerCall, end: CallEnded) -> None:
        """End a call once all that it wrote is sent."""
        if call.closed or call.trailers is not None:
            return
        if not self._is_open(call.stream_id):
            self._close(call)
            return
        call.trailers = heads.status_headers(end.code, end.told, end.trailing)
        if not call.unsent:
            self._end(call)

    def _end(self, call: ServerCall) -> None:
        assert call.trailers is not None
        stream_id = call.stream_id
        headers = call.trailers if call.head_sent else [*heads.ANSWER, *call.trailers]
        self._machine.send_headers(stream_id, headers, end_stream=True)
        self._frames.sent(1)
        if self._is_open(stream_id):
            # It need not go on sending what nobody reads.
            self._machine.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._close(call)
        self._soon()

    def _answer_bare(self, stream_id: int, headers: Sequence[Header]) -> None:
        self._machine.send_headers(stream_id, headers, end_stream=True)
        self._frames.sent(1)
        stream = self._machine.streams.get(stream_id)
        if stream is not None and stream.open:
            self._machine.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._soon()

    def _is_open(self, stream_id: int) -> bool:
        """Whether a stream can be written to: what has come may hold its end, which is not looked at yet."""
        stream = self._machine.streams.get(stream_id)
        return stream is not None and not stream.closed

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        if not self._ended and self._is_open(stream_id):
            self._machine.reset_stream(stream_id, int(code))
            self._soon()

    def _let_send(self, call: ServerCall) -> None:
        """Open a call's window for what it may send and we would hold."""
        wanted = call.inbox.wanted_bytes
        if call.window_bytes * 2 < wanted and not call.input_ended and self._is_open(call.stream_id):
            self._machine.increment_flow_control_window(wanted - call.window_bytes, call.stream_id)
            if call.window_bytes <= 0:
                call.read_deadline_s = max(
                    call.read_deadline_s, self._loop.time() + self._server.limits.wire.request_read_timeout_s
                )
            call.window_bytes = wanted
            self._soon()

    def _due(self, at_s: float) -> None:
        if at_s < self.deadline:
            self.deadline = at_s
