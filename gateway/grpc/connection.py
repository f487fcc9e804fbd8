"""One connection of gRPC: HTTP/2 from h2, and gRPC's own rules on top of it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
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
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

from gateway.grpc import heads
from gateway.grpc.call import ServerCall
from gateway.grpc.calls_underway import CallsUnderway
from gateway.grpc.codes import Code
from gateway.grpc.frames import ErrorCode, Frames, Unbearable, goaway
from gateway.grpc.heads import KNOWN, Head, Malformed, PlainEncoder, head_of
from gateway.grpc.inbox import Inbox
from gateway.grpc.limits import (
    CONNECTION_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    MAX_STREAMS,
    STREAM_WINDOW_BYTES,
    GrpcLimits,
)
from gateway.grpc.methods import CallEnded, ServerStream, Stream, unimplemented
from gateway.grpc.server_context import ServerContext
from gateway.http.sweep import Timed
from inference.errors import DeadlineExceeded, InvalidRequest, SluiceError

_logger = logging.getLogger("sluice.grpc")

TURN_S = 0.002
"""How long one connection's frames are worked through before others have their turn."""

UNSENT_BYTES = 256 * 1024
"""How much is handed to the network before it has taken something."""

FRAMES_AT_ONCE = 4
"""Frames of long answers that are put together before they are handed over."""

# h2 writes every frame out, its body in hex, for a log that nobody keeps: 80 µs for one that is full. Nor should what
# clients send stand in any log.
Frame.__repr__ = object.__repr__  # type: ignore[method-assign]

LAST_STREAM = 2**31 - 1

CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    # Headers are looked at once, in `head_of`, and what is wrong with them ends their call and not its neighbours.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    # What we send is right, and as it has to be.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

STRANGER = b"This port is for gRPC, over HTTP/2.\r\n"
NOT_HERE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(STRANGER), STRANGER)
)


class GrpcConnection(CallsUnderway, Timed):
    """A connection and its calls.

    Nothing that a client sends ends more than its own connection: what breaks HTTP/2 ends that, what breaks gRPC ends
    the call. It always has a deadline: until its first call, and for frames, heads and messages that have begun, that
    of reading; for answers that the client does not take, that of writing; while it is quiet, that of pings. What it
    holds is counted in `held`. Calls are cancelled when their client is gone.
    """

    def __init__(self, server: ServerContext) -> None:
        super().__init__(server)
        self._loop = asyncio.get_running_loop()
        limits = server.limits
        now_s = self._made_s = self._heard_s = self._loop.time()
        self._frames = Frames(limits.max_block_bytes, limits.min_ping_interval_s, now_s)
        self._machine = _machine(limits)
        self._turn: asyncio.Handle | None = None
        self._flushing = False
        self._greeted = False
        self._has_called = False
        self._ended = False
        self._leaving = self._told_of_last = False
        self._pinged_s = math.inf
        self._stuck_bytes = 0
        self._stuck_until_s = math.inf
        self._discarded_bytes = 0
        self._counted_bytes = 0
        self._unacknowledged_bytes = 0
        self._paused = False
        self.deadline = now_s + min(limits.wire.request_read_timeout_s, limits.keepalive_time_s)

    # From the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet the client, or turn it away."""
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._server.enter(self)
        if self._server.is_full():
            self._hang_up(Unbearable(ErrorCode.NO_ERROR, b"too many connections"))
        elif self._server.leaving:
            self.leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what is underway, and give back what is held."""
        self._ended = True
        if self._turn is not None:
            self._turn.cancel()
        for call in list(self._calls.values()):
            self._close(call)
        self._server.held.now_bytes -= self._counted_bytes
        self._counted_bytes = 0
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Work through what has come, unless others are to have their turn first."""
        if self._ended:
            self._discard(len(data))
            return
        self._heard_s = self._loop.time()
        self._frames.take(data)
        if self._turn is None:
            self._read()

    def pause_writing(self) -> None:
        """The network takes no more: nothing is sent, and nothing read that would have to be answered."""
        self._paused = True
        self._stuck_bytes = self._transport.get_write_buffer_size()
        self._stuck_until_s = self._loop.time() + self._server.limits.wire.write_timeout_s
        self._due(self._stuck_until_s)
        if not self._ended:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Send what has been waiting."""
        self._paused = False
        if not self._ended and self._turn is None:
            self._transport.resume_reading()
        self._pump()

    # From the wire to the calls.

    def _read(self) -> None:
        was_waiting, self._turn = self._turn is not None, None
        now_s = self._loop.time()
        end_s = now_s + TURN_S
        try:
            while not self._ended and (run := self._frames.run(now_s)):
                if not self._greeted:
                    self._greet()
                for event in self._machine.receive_data(run):
                    if (react := _REACTIONS.get(event.__class__)) is not None:
                        react(self, event)
                        if self._ended:
                            return
                if self._loop.time() >= end_s and not self._ended:
                    self._transport.pause_reading()
                    self._turn = self._loop.call_soon(self._read)
                    break
        except Unbearable as end:
            if self._frames.speak_http_1:
                # Somebody has mistaken the port, and is told in its own words.
                self._transport.write(NOT_HERE)
                self._linger()
            else:
                self._hang_up(end)
        except ProtocolError:
            self._server.log_fault(_logger, logging.WARNING, "a client broke the rules of HTTP/2")
            self._linger()
        except Exception as error:
            self._fail(error)
        if self._ended:
            return
        if was_waiting and self._turn is None and not self._paused:
            self._transport.resume_reading()
        self._count()
        if self._frames.unfinished_since_s is not None:
            self._due(self._frames.unfinished_since_s + self._server.limits.wire.request_read_timeout_s)
        if self._frames.going and not self._calls:
            self._linger()
        self._flush()

    def _greet(self) -> None:
        """Say what we take. Clients send their first call without having heard of it."""
        self._greeted = True
        self._machine.initiate_connection()
        self._machine.increment_flow_control_window(CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES)

    def _on_request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        assert stream_id is not None
        if not self._is_open(stream_id):
            return  # the same frames have taken it back
        if self._told_of_last:
            self._reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._has_called = True
        try:
            head = head_of(event.headers)
        except Malformed:
            self._reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if head.method != b"POST":
            self._answer_bare(stream_id, heads.WRONG_METHOD)
        elif not head.content_type.startswith(b"application/grpc"):
            self._answer_bare(stream_id, heads.WRONG_TYPE)
        else:
            try:
                call = self._admitted(stream_id, head)
            except CallEnded as end:
                self._answer_bare(stream_id, [*heads.ANSWER, *heads.status_headers(end.code, end.told, end.trailing)])
            else:
                self._begin(call)

    def _admitted(self, stream_id: int, head: Head) -> ServerCall:
        """The call that a head begins. Raises `CallEnded`."""
        limits = self._server.limits
        method = self._server.methods.get(head.path)
        if method is None:
            raise unimplemented(head.path)
        if head.size_bytes > limits.wire.max_header_bytes:
            raise CallEnded(
                Code.RESOURCE_EXHAUSTED,
                b"the metadata are over the limit of %d bytes" % limits.wire.max_header_bytes,
            )
        if self._server.calls_underway >= limits.max_calls:
            raise CallEnded(Code.RESOURCE_EXHAUSTED, b"there are %d calls already" % limits.max_calls)
        if head.encoding not in (b"identity", b"gzip", b"deflate"):
            raise CallEnded(Code.UNIMPLEMENTED, b"grpc-encoding may be identity, gzip or deflate", (heads.ENCODINGS,))
        try:
            timeout_s = head.timeout_s
        except ValueError as error:
            raise CallEnded(Code.INVALID_ARGUMENT, str(error).encode()) from None
        inbox = Inbox(self._server.held, limits.max_message_bytes)
        return ServerCall(self, stream_id, method, head.metadata, head.encoding, timeout_s, inbox)

    def _begin(self, call: ServerCall) -> None:
        self._calls[call.stream_id] = call
        self._server.calls_underway += 1
        if isinstance(call.method, Stream):
            self._start(call, self._run_stream(call, call.method))
            if call.deadline_s < math.inf:
                self._limited[call.stream_id] = call
                self._due(self._loop.time() + (call.time_remaining() or 0.0))
        else:
            self._await_more(call)

    def _on_data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length or 0
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self._machine.increment_flow_control_window(self._unacknowledged_bytes)
            self._unacknowledged_bytes = 0
        call = self._calls.get(event.stream_id or 0)
        if call is None or call.trailers is not None:
            return
        call.window_bytes -= size
        if not event.data:
            self._let_send(call)
            return
        call.total_bytes += size
        waiting = len(call.inbox)
        try:
            call.inbox.feed(event.data)
        except SluiceError as error:
            self._refuse(call, error)
            return
        if event.stream_ended is None:
            self._let_send(call)
            if isinstance(call.method, Stream):
                if call.inbox.incomplete:
                    self._await_more(call)
                else:
                    self._reading.pop(call.stream_id, None)
        if len(call.inbox) > waiting:
            if isinstance(call.method, Stream):
                call.arrived()
            elif len(call.inbox) > 1:
                self._refuse(call, InvalidRequest("the method takes one message, and there came more"))

    def _on_end(self, event: StreamEnded) -> None:
        call = self._calls.get(event.stream_id or 0)
        if call is None:
            return
        call.input_ended = True
        self._reading.pop(call.stream_id, None)
        if call.trailers is not None:
            return
        if call.inbox.incomplete:
            self._refuse(call, InvalidRequest("the call ended within a message"))
        elif isinstance(call.method, Stream):
            call.arrived()
        elif not call.inbox:
            self._refuse(call, InvalidRequest("the method takes one message, and there came none"))
        else:
            self._start_single(call, call.method)
            if call.deadline_s < math.inf and isinstance(call.method, ServerStream):
                self._limited[call.stream_id] = call
                self._due(self._loop.time() + (call.time_remaining() or 0.0))

    def _on_reset(self, event: StreamReset) -> None:
        call = self._calls.get(event.stream_id or 0)
        if call is not None:
            self._close(call)

    def _on_window(self, _: WindowUpdated | RemoteSettingsChanged) -> None:
        if self._sending:
            self._pump()

    def _on_pong(self, _: PingAckReceived) -> None:
        self._pinged_s = math.inf
        if self._leaving:
            self._tell_of_last()

    # What the calls send.

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
        if self._ended:
            return
        sending = deque(self._sending.values())
        frames = 0
        while sending and not self._paused:
            call = sending.popleft()
            if self._send_frame(call):
                sending.append(call)
            frames += 1
            if frames % FRAMES_AT_ONCE == 0:
                self._flush()
        self._soon()

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
            if packed:
                machine.send_headers(stream_id, [*heads.ANSWER, (b"grpc-encoding", call.encoding), heads.ENCODINGS])
            else:
                machine.send_headers(stream_id, heads.ANSWER)
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

    def _answer_bare(self, stream_id: int, headers: Any) -> None:
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
        self._server.log_fault(_logger, logging.ERROR, "a gRPC connection failed", error)
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
            self._server.log_fault(_logger, logging.WARNING, f"hung up on a gRPC client: {why}")
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
        unread_bytes = self._frames.unread_bytes
        if unread_bytes != self._counted_bytes:
            self._server.held.now_bytes += unread_bytes - self._counted_bytes
            self._counted_bytes = unread_bytes

    # How long it may take.

    def _await_more(self, call: ServerCall) -> None:
        if call.stream_id not in self._reading:
            self._reading[call.stream_id] = call
            call.timed_bytes = call.total_bytes
            call.read_deadline_s = self._loop.time() + self._server.limits.wire.request_read_timeout_s
            if call.read_deadline_s < self.deadline:
                self.deadline = call.read_deadline_s

    def _due(self, at_s: float) -> None:
        if at_s < self.deadline:
            self.deadline = at_s

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


class _Machine(H2Connection):
    """h2's state machine, which remembers fewer streams that are over: each takes up memory until its client goes."""

    MAX_CLOSED_STREAMS = 4 * MAX_STREAMS


def _machine(limits: GrpcLimits) -> H2Connection:
    machine = _Machine(CONFIG)
    machine.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.wire.max_header_bytes,
        },
    )
    machine.decoder.max_header_list_size = limits.max_block_bytes
    machine.encoder = PlainEncoder(KNOWN)  # type: ignore[assignment]  # has all that h2 uses
    return machine


_REACTIONS: Mapping[type[Any], Callable[[GrpcConnection, Any], None]] = {
    RequestReceived: GrpcConnection._on_request,
    DataReceived: GrpcConnection._on_data,
    StreamEnded: GrpcConnection._on_end,
    StreamReset: GrpcConnection._on_reset,
    WindowUpdated: GrpcConnection._on_window,
    RemoteSettingsChanged: GrpcConnection._on_window,
    PingAckReceived: GrpcConnection._on_pong,
}
