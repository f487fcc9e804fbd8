"""One connection of gRPC: an adapter from asyncio's transport to HTTP/2 and the calls on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from sluice.gateway.grpc.backlog import ConnectionBacklog
from sluice.gateway.grpc.calls_in_flight import CallsInFlight
from sluice.gateway.grpc.frames import ConnectionEnded, ErrorCode
from sluice.gateway.grpc.http2 import Http2
from sluice.gateway.grpc.incoming import Incoming
from sluice.gateway.grpc.lifetime import Lifetime
from sluice.gateway.grpc.next_deadline import NextDeadline
from sluice.gateway.grpc.server_context import ServerContext

_logger = logging.getLogger("sluice.grpc")

TURN_S = 0.002
"""How long one connection's frames are worked through before others have their turn."""

UNSENT_BYTES = 256 * 1024
"""How much is handed to the network before it has taken something."""

NOT_HTTP_2 = b"This port is for gRPC, over HTTP/2.\r\n"
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(NOT_HTTP_2), NOT_HTTP_2)
)


class GrpcConnection(asyncio.Protocol):
    """Owns the parts of a connection, and hands on to them what asyncio and the deadline sweep call.

    - `Http2` has the frames that come, h2's state machine and the transport.
    - `Incoming` makes calls of what the client sends.
    - `CallsInFlight` has the calls, runs their methods, and sends what they answer through `Outgoing`.
    - `ConnectionBacklog` counts what is held beside the calls.
    - `Lifetime` keeps the deadlines, and ends the connection.

    Nothing that a client sends ends more than its own connection: what breaks HTTP/2 ends that, what breaks gRPC ends
    the call. Calls are cancelled when their client is gone.
    """

    def __init__(self, server: ServerContext) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        limits = server.limits
        self._read_timeout_s = limits.wire.request_read_timeout_s
        self._deadline = NextDeadline(self._loop.time() + min(self._read_timeout_s, limits.keepalive_time_s))
        self._http2 = http2 = Http2(limits)
        self._calls = calls = CallsInFlight(
            server, http2, self._deadline, on_empty=self._on_no_calls, on_failure=self._on_failure
        )
        self._backlog = ConnectionBacklog(http2, calls.outgoing, server.held, limits.wire)
        self._lifetime = Lifetime(server, http2, calls, self._backlog, self._deadline)
        incoming = Incoming(server, http2, calls)
        self._reactions: Mapping[type[Any], Callable[[Any], None]] = {
            RequestReceived: incoming.on_request,
            DataReceived: incoming.on_data,
            StreamEnded: incoming.on_end,
            StreamReset: incoming.on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_window,
            PingAckReceived: self._on_pong,
        }
        self._turn: asyncio.Handle | None = None
        """The next turn of reading, while the rest of what has come waits for it."""

    # From the transport.

    # asyncio declares `BaseTransport`; servers are given a `Transport`.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet the client, or turn it away."""
        self._http2.transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._server.enter(self)
        if self._server.is_full():
            self._lifetime.hang_up(ConnectionEnded(ErrorCode.NO_ERROR, b"too many connections"))
        elif self._server.leaving:
            self._lifetime.leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel the calls in flight, and give back what is held."""
        self._http2.ended = True
        if self._turn is not None:
            self._turn.cancel()
        self._calls.close_all()
        self._backlog.drop()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Work through what has come, unless others are to have their turn first."""
        if self._http2.ended:
            self._lifetime.discard(len(data))
            return
        self._lifetime.heard_s = self._loop.time()
        self._http2.frames.take(data)
        if self._turn is None:
            self._read()

    def pause_writing(self) -> None:
        """The network takes no more: send nothing, and read nothing that would have to be answered."""
        self._http2.paused = True
        self._backlog.count()
        self._lifetime.paused()
        if not self._http2.ended:
            self._http2.transport.pause_reading()

    def resume_writing(self) -> None:
        """Send what has been waiting."""
        self._http2.paused = False
        self._backlog.count()
        if not self._http2.ended and self._turn is None:
            self._http2.transport.resume_reading()
        self._calls.outgoing.pump()

    # From the server.

    def leave(self) -> None:
        """Finish the calls in flight, and end then."""
        self._lifetime.leave()

    def abort(self) -> None:
        """End the connection now."""
        self._http2.transport.abort()

    # From the deadline sweep.

    @property
    def deadline(self) -> float:
        """When `overdue` has to be called."""
        return self._deadline.at_s

    @property
    def unsent_bytes(self) -> int:
        """How much of the answers is not sent yet."""
        return self._backlog.unsent_bytes

    def recount(self) -> None:
        """Count again what is unsent."""
        if not self._http2.ended:
            self._backlog.count()

    def make_room(self, now: float) -> None:
        """Too much is held: end the connection if its client takes too little of what is there for it."""
        if self._backlog.is_too_slow(now):
            self._lifetime.make_room()

    def overdue(self, now: float) -> None:
        """End what is past its deadline, and find the next deadline."""
        try:
            self._lifetime.look_at_clock(now)
        except Exception as error:
            self._lifetime.fail(error)

    # From the wire to the calls.

    def _read(self) -> None:
        was_waiting, self._turn = self._turn is not None, None
        http2 = self._http2
        now_s = self._loop.time()
        try:
            self._turn = self._work_through(now_s)
        except ConnectionEnded as end:
            if http2.frames.speak_http_1:
                # The client speaks HTTP/1.1, and is told so in HTTP/1.1.
                http2.transport.write(BAD_REQUEST)
                self._lifetime.linger()
            else:
                self._lifetime.hang_up(end)
        except ProtocolError:
            self._server.faults.warn(_logger, "closed a gRPC connection: its client broke the rules of HTTP/2")
            self._lifetime.linger()
        except Exception as error:
            self._lifetime.fail(error)
        if http2.ended:
            return
        if was_waiting and self._turn is None and not http2.paused:
            http2.transport.resume_reading()
        self._backlog.count()
        if http2.frames.unfinished_since_s is not None:
            self._deadline.due(http2.frames.unfinished_since_s + self._read_timeout_s)
        if http2.frames.goaway_received and not self._calls.by_stream:
            self._lifetime.linger()
        http2.flush()

    def _work_through(self, now_s: float) -> asyncio.Handle | None:
        """React to what has come, for `TURN_S`. Returns the next turn, if there is more. Raises what h2 raises, too."""
        http2, reactions = self._http2, self._reactions
        while not http2.ended and (run := http2.frames.run(now_s)):
            if not http2.greeted:
                http2.greet()
            for event in http2.machine.receive_data(run):
                if (react := reactions.get(event.__class__)) is not None:
                    react(event)
                    if http2.ended:
                        return None
            if self._loop.time() >= now_s + TURN_S:
                http2.transport.pause_reading()
                return self._loop.call_soon(self._read)
        return None

    def _on_window(self, _: WindowUpdated | RemoteSettingsChanged) -> None:
        self._calls.outgoing.pump_soon()

    def _on_pong(self, _: PingAckReceived) -> None:
        self._lifetime.pong()

    # From the calls.

    def _on_no_calls(self) -> None:
        self._lifetime.calls_ended()

    def _on_failure(self, error: Exception) -> None:
        self._lifetime.fail(error)
