"""How long everything on a connection of gRPC may take, and how the connection ends."""

from __future__ import annotations

import asyncio
import logging
import math

from sluice.gateway.grpc.backlog import ConnectionBacklog
from sluice.gateway.grpc.calls_in_flight import CallsInFlight
from sluice.gateway.grpc.frames import ConnectionEnded, ErrorCode
from sluice.gateway.grpc.http2 import LAST_STREAM, Http2
from sluice.gateway.grpc.next_deadline import NextDeadline
from sluice.gateway.grpc.server_context import ServerContext

_logger = logging.getLogger("sluice.grpc")


class Lifetime:
    """Keeps a connection's deadlines, and ends it.

    A connection always has a deadline: to read its first call, and every frame, head and message that has begun; to
    write answers that the client does not take; and to be pinged while it is quiet.
    """

    def __init__(
        self,
        server: ServerContext,
        http2: Http2,
        calls: CallsInFlight,
        backlog: ConnectionBacklog,
        deadline: NextDeadline,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._limits = server.limits
        self._http2 = http2
        self._calls = calls
        self._backlog = backlog
        self._deadline = deadline
        self._made_s = self._loop.time()
        self.heard_s = self._made_s
        """When the client last sent anything."""
        self._leaving = False
        # What the network had not taken, and by when it must have taken some of it.
        self._stuck_bytes, self._stuck_until_s = 0, math.inf
        self._discarded_bytes = 0

    # How it ends.

    def leave(self) -> None:
        """Finish the calls in flight, and have the client send others elsewhere.

        It may be sending a call at this moment. So it is told to leave and pinged, and the last call that is answered
        is named when it has answered the ping (RFC 9113, section 6.8).
        """
        if self._leaving or self._http2.ended:
            return
        self._leaving = True
        self._http2.go_away(ErrorCode.NO_ERROR, last_stream=LAST_STREAM)
        self._http2.ping()
        self._deadline.due(self._loop.time() + self._limits.wire.farewell_s)
        self._http2.flush()

    def pong(self) -> None:
        """The client has answered a ping."""
        self._http2.pinged_s = math.inf
        if self._leaving:
            self._name_last_call()

    def calls_ended(self) -> None:
        """The last call of a connection that is leaving has ended: so does the connection."""
        if not self._http2.ended:
            self.linger()

    def fail(self, error: Exception) -> None:
        """End this connection, and no other: a fault of ours, or of a library."""
        self._server.faults.error(_logger, "a gRPC connection failed", error)
        self._http2.ended = True
        self._http2.transport.abort()

    def hang_up(self, end: ConnectionEnded) -> None:
        """End the connection, and tell the client why."""
        if self._http2.ended:
            return
        if end.code is not ErrorCode.NO_ERROR:
            why = end.told.decode() or end.code.name
            self._server.faults.warn(_logger, f"closed a gRPC connection: {why}")
        self._http2.go_away(end.code, end.told)
        self.linger()

    def linger(self) -> None:
        """Close the connection without a reset, so that the client still reads what it was told last."""
        http2 = self._http2
        http2.flush()
        http2.ended = True
        self._calls.close_all()
        http2.frames.forget()
        self._backlog.count()
        if http2.transport.is_closing():
            return
        if not http2.transport.can_write_eof():
            http2.transport.close()
        else:
            http2.transport.write_eof()
            http2.transport.resume_reading()
        self._deadline.at_s = self._loop.time() + self._limits.wire.linger_s

    def discard(self, size_bytes: int) -> None:
        """Drop what came after the end. A client that sends too much of it is reset."""
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self._limits.wire.linger_bytes:
            self._http2.transport.abort()

    def make_room(self) -> None:
        """End the connection, since its client takes too little of what is held for it."""
        self._server.faults.warn(_logger, "closed a gRPC connection: its client takes its answers too slowly")
        self._http2.ended = True
        self._calls.close_all()
        self._http2.transport.abort()

    def _name_last_call(self) -> None:
        if self._calls.last_named or self._http2.ended:
            return
        self._calls.last_named = True
        self._http2.go_away(ErrorCode.NO_ERROR)
        if not self._calls.by_stream:
            self.linger()

    # How long it may take.

    def paused(self) -> None:
        """The network takes no more: from now on it has a deadline to take some of it."""
        self._stuck_bytes = self._http2.transport.get_write_buffer_size()
        self._stuck_until_s = self._loop.time() + self._limits.wire.write_timeout_s
        self._deadline.due(self._stuck_until_s)

    def look_at_clock(self, now: float) -> None:
        """End what is past its deadline, and find the next deadline."""
        http2, read_timeout_s = self._http2, self._limits.wire.request_read_timeout_s
        self._deadline.at_s = math.inf
        if http2.ended or http2.transport.is_closing() or self._is_stuck(now):
            http2.transport.abort()
            return
        if not self._calls.client_has_called:
            self._deadline.due(self._made_s + read_timeout_s)
            if self._deadline.at_s <= now:
                self.hang_up(ConnectionEnded(ErrorCode.NO_ERROR, b"no call came in time"))
                return
        since_s = http2.frames.unfinished_since_s
        if since_s is not None:
            self._deadline.due(since_s + read_timeout_s)
            if self._deadline.at_s <= now:
                self.hang_up(ConnectionEnded(ErrorCode.ENHANCE_YOUR_CALM, b"a frame was not complete in time"))
                return
        self._calls.look_at_clock(now)
        if self._leaving:
            self._name_last_call()
        if not http2.ended:
            self._look_at_pings(now)
            http2.flush()

    def _is_stuck(self, now: float) -> bool:
        """Whether the network has taken nothing of what was written for as long as it may."""
        if not self._http2.paused:
            return False
        if now >= self._stuck_until_s:
            unsent_bytes = self._http2.transport.get_write_buffer_size()
            if unsent_bytes >= self._stuck_bytes:
                return True
            self._stuck_bytes = unsent_bytes
            self._stuck_until_s = now + self._limits.wire.write_timeout_s
        self._deadline.due(self._stuck_until_s)
        return False

    def _look_at_pings(self, now: float) -> None:
        http2, limits = self._http2, self._limits
        if self.heard_s > http2.pinged_s:
            http2.pinged_s = math.inf
        if http2.pinged_s < math.inf:
            if now >= http2.pinged_s + limits.keepalive_timeout_s:
                http2.transport.abort()
                return
        elif now >= self.heard_s + limits.keepalive_time_s:
            http2.ping()
        if http2.pinged_s == math.inf:
            self._deadline.due(self.heard_s + limits.keepalive_time_s)
        else:
            self._deadline.due(http2.pinged_s + limits.keepalive_timeout_s)
