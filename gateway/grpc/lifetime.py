"""How a connection of gRPC ends, how much it holds until then, and how long each thing may take."""

from __future__ import annotations

import asyncio
import logging
import math

from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.frames import ErrorCode, Unbearable, goaway
from sluice.gateway.grpc.limits import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from sluice.gateway.grpc.methods import CallEnded
from sluice.gateway.grpc.outgoing import Outgoing
from sluice.gateway.grpc.server_context import ServerContext
from sluice.inference.errors import DeadlineExceeded

_logger = logging.getLogger("sluice.grpc")

LAST_STREAM = 2**31 - 1


class Lifetime(Outgoing):
    """Keeps a connection's deadlines and ends it; `GrpcConnection` builds on it.

    It always has a deadline: until its first call, and for frames, heads and messages that have begun, that of
    reading; for answers that the client does not take, that of writing; while it is quiet, that of pings.
    """

    def __init__(self, server: ServerContext) -> None:
        super().__init__(server)
        self._made_s = self._heard_s = self._loop.time()
        # The rest of what has come waits for the loop to come round.
        self._turn: asyncio.Handle | None = None
        self._greeted = self._has_called = False
        self._leaving = self._told_of_last = False
        self._pinged_s = math.inf
        # What the network had not taken, and by when it must have taken some of it.
        self._stuck_bytes, self._stuck_until_s = 0, math.inf
        # The same of answers, while too much is held.
        self._spare_bytes, self._spare_until_s = 0, -math.inf
        self._discarded_bytes = 0
        self._counted_bytes = 0

    def _greet(self) -> None:
        """Say what we take. Clients send their first call without having heard of it."""
        self._greeted = True
        self._machine.initiate_connection()
        self._machine.increment_flow_control_window(CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES)

    # How it ends.

    def leave(self) -> None:
        """Finish what is underway. The client learns that it has to go elsewhere, and when it knows, the rest is over.

        It may be sending a call at this moment, so the last one is only named when it has answered a ping (RFC 9113,
        section 6.8).
        """
        if self._leaving or self._ended:
            return
        self._leaving = True
        if not self._greeted:
            self._greet()
        self._flush()
        self._transport.write(goaway(LAST_STREAM, ErrorCode.NO_ERROR))
        self._ping()
        self._due(self._loop.time() + self._server.limits.wire.farewell_s)
        self._flush()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        """A fault of ours, or of what we are built on, ends this connection and no other."""
        self._server.faults.error(_logger, "a gRPC connection failed", error)
        self._ended = True
        self._transport.abort()

    def _tell_of_last(self) -> None:
        if self._told_of_last or self._ended:
            return
        self._told_of_last = True
        self._flush()
        self._transport.write(goaway(self._machine.highest_inbound_stream_id, ErrorCode.NO_ERROR))
        if not self._calls:
            self._linger()

    def _emptied(self) -> None:
        if (self._told_of_last or self._frames.going) and not self._ended:
            self._linger()

    def _hang_up(self, end: Unbearable) -> None:
        if self._ended:
            return
        if end.code is not ErrorCode.NO_ERROR:
            why = end.told.decode() or end.code.name
            self._server.faults.warn(_logger, f"hung up on a gRPC client: {why}")
        if not self._greeted:
            self._greet()
        self._flush()
        self._transport.write(goaway(self._machine.highest_inbound_stream_id, end.code, end.told))
        self._linger()

    def _linger(self) -> None:
        """Close, but not with a reset: the client would lose what it was told last."""
        self._flush()
        self._ended = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        for call in list(self._calls.values()):
            self._close(call)
        self._frames.forget()
        self._count()
        if self._transport.is_closing():
            return
        if not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._transport.resume_reading()
        self.deadline = self._loop.time() + self._server.limits.wire.linger_s

    def _discard(self, size_bytes: int) -> None:
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self._server.limits.wire.linger_bytes:
            self._transport.abort()

    def _count(self) -> None:
        """Count what the connection itself holds: the rest of a frame, and what the network has not taken."""
        held_bytes = self._frames.unread_bytes + self._transport.get_write_buffer_size()
        if held_bytes != self._counted_bytes:
            self._server.held.now_bytes += held_bytes - self._counted_bytes
            self._counted_bytes = held_bytes

    @property
    def unsent_bytes(self) -> int:  # type: ignore[override]  # nobody sets it
        """What was answered and has not gone."""
        waiting_bytes = sum([len(view) for call in self._sending.values() for view in call.unsent])
        return waiting_bytes + self._transport.get_write_buffer_size()

    def recount(self) -> None:
        """Count what is still unsent."""
        if not self._ended:
            self._count()

    def make_room(self, now: float) -> None:
        """Too much is held: cut the connection off if its client takes too little of what is there for it.

        It has `crowded_grace_s` to take what it is to take in that time.
        """
        wire, unsent_bytes = self._server.limits.wire, self.unsent_bytes
        if not unsent_bytes or now > self._spare_until_s + wire.crowded_grace_s:
            self._spare_until_s = now + wire.crowded_grace_s
            self._spare_bytes = unsent_bytes - int(wire.min_body_bytes_per_s * wire.crowded_grace_s)
        elif now >= self._spare_until_s:
            self._spare_until_s = -math.inf
            if unsent_bytes > self._spare_bytes:
                self._server.faults.warn(_logger, "a gRPC client that took no answers made room for others")
                self._ended = True
                for call in list(self._calls.values()):
                    self._close(call)
                self._transport.abort()

    # How long it may take.

    def _await_more(self, call: ServerCall) -> None:
        if call.stream_id not in self._reading:
            self._reading[call.stream_id] = call
            call.timed_bytes = call.total_bytes
            call.read_deadline_s = self._loop.time() + self._server.limits.wire.request_read_timeout_s
            if call.read_deadline_s < self.deadline:
                self.deadline = call.read_deadline_s

    def overdue(self, now: float) -> None:
        """Look at all that has a deadline, end what is past its own, and find the next one."""
        try:
            self._look_at_clock(now)
        except Exception as error:
            self._fail(error)

    def _look_at_clock(self, now: float) -> None:
        wire = self._server.limits.wire
        if self._ended or self._transport.is_closing():
            self._transport.abort()
            self.deadline = math.inf
            return
        self.deadline = math.inf
        if self._is_stuck(now):
            self._transport.abort()
            return
        if not self._has_called:
            self._due(self._made_s + wire.request_read_timeout_s)
            if self.deadline <= now:
                self._hang_up(Unbearable(ErrorCode.NO_ERROR, b"no call came in time"))
                return
        since_s = self._frames.unfinished_since_s
        if since_s is not None:
            self._due(since_s + wire.request_read_timeout_s)
            if self.deadline <= now:
                self._hang_up(Unbearable(ErrorCode.ENHANCE_YOUR_CALM, b"a frame was not complete in time"))
                return
        self._look_at_calls(now)
        if self._leaving and not self._told_of_last:
            self._tell_of_last()
        if not self._ended:
            self._look_at_pings(now)
            self._flush()

    def _is_stuck(self, now: float) -> bool:
        """Whether the network has taken nothing of what was handed to it for as long as it may."""
        if not self._paused:
            return False
        if now >= self._stuck_until_s:
            unsent_bytes = self._transport.get_write_buffer_size()
            if unsent_bytes >= self._stuck_bytes:
                return True
            self._stuck_bytes = unsent_bytes
            self._stuck_until_s = now + self._server.limits.wire.write_timeout_s
        self._due(self._stuck_until_s)
        return False

    def _look_at_calls(self, now: float) -> None:
        wire = self._server.limits.wire
        for call in list(self._reading.values()):
            call.read_deadline_s += (call.total_bytes - call.timed_bytes) / wire.min_body_bytes_per_s
            call.timed_bytes = call.total_bytes
            if call.window_bytes <= 0:
                # It is we who do not let it send.
                call.read_deadline_s = now + wire.request_read_timeout_s
            if call.read_deadline_s <= now:
                self._refuse(call, DeadlineExceeded("the message was not complete in time"))
            else:
                self._due(call.read_deadline_s)
        for call in list(self._sending.values()):
            if call.write_deadline_s <= now and not self._paused:
                self._reset(call.stream_id, ErrorCode.CANCEL)
                self._close(call)
            else:
                self._due(max(call.write_deadline_s, now + 0.001))
        for call in list(self._limited.values()):
            left_s = call.time_remaining() or 0.0
            if left_s <= 0:
                self._finish(call, CallEnded(Code.DEADLINE_EXCEEDED, b"the deadline has passed"))
                self._limited.pop(call.stream_id, None)
                self._stop(call)
            else:
                self._due(now + left_s)

    def _look_at_pings(self, now: float) -> None:
        limits = self._server.limits
        if self._heard_s > self._pinged_s:
            self._pinged_s = math.inf
        if self._pinged_s < math.inf:
            if now >= self._pinged_s + limits.keepalive_timeout_s:
                self._transport.abort()
                return
        elif now >= self._heard_s + limits.keepalive_time_s:
            self._ping()
        at_s = self._heard_s + limits.keepalive_time_s
        self._due(at_s if self._pinged_s == math.inf else self._pinged_s + limits.keepalive_timeout_s)

    def _ping(self) -> None:
        self._machine.ping(b"sluice\x00\x00")
        self._pinged_s = self._loop.time()
