"""One connection of gRPC: HTTP/2 from h2, and gRPC's own rules on top of it."""

from __future__ import annotations

import asyncio
import logging
import math
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

from sluice.gateway.grpc import heads
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.frames import ErrorCode, Unbearable
from sluice.gateway.grpc.heads import CallHead, Malformed, head_of
from sluice.gateway.grpc.inbox import Inbox
from sluice.gateway.grpc.lifetime import Lifetime
from sluice.gateway.grpc.limits import CONNECTION_WINDOW_BYTES
from sluice.gateway.grpc.methods import CallEnded, ServerStream, Stream, unimplemented
from sluice.gateway.grpc.server_context import ServerContext
from sluice.inference.errors import InvalidRequest, SluiceError

_logger = logging.getLogger("sluice.grpc")

TURN_S = 0.002
"""How long one connection's frames are worked through before others have their turn."""

UNSENT_BYTES = 256 * 1024
"""How much is handed to the network before it has taken something."""

STRANGER = b"This port is for gRPC, over HTTP/2.\r\n"
NOT_HERE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(STRANGER), STRANGER)
)


class GrpcConnection(Lifetime):
    """A connection and its calls.

    Nothing that a client sends ends more than its own connection: what breaks HTTP/2 ends that, what breaks gRPC ends
    the call. What it holds is counted in `held`. Calls are cancelled when their client is gone.
    """

    def __init__(self, server: ServerContext) -> None:
        super().__init__(server)
        self._unacknowledged_bytes = 0

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
        self._count()
        self._stuck_bytes = self._transport.get_write_buffer_size()
        self._stuck_until_s = self._loop.time() + self._server.limits.wire.write_timeout_s
        self._due(self._stuck_until_s)
        if not self._ended:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Send what has been waiting."""
        self._paused = False
        self._count()
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
            self._server.faults.warn(_logger, "a client broke the rules of HTTP/2")
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

    def _admitted(self, stream_id: int, head: CallHead) -> ServerCall:
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
        if len(head.metadata) > limits.wire.max_headers:
            raise CallEnded(
                Code.RESOURCE_EXHAUSTED, b"the metadata are over the limit of %d entries" % limits.wire.max_headers
            )
        free = limits.max_calls - self._server.calls_underway
        if free <= 0:
            raise CallEnded(Code.RESOURCE_EXHAUSTED, b"there are %d calls already" % limits.max_calls)
        if len(self._calls) >= free:
            raise CallEnded(
                Code.RESOURCE_EXHAUSTED, b"this connection has %d calls, and there are others" % len(self._calls)
            )
        if head.encoding not in (b"identity", b"gzip", b"deflate"):
            raise CallEnded(Code.UNIMPLEMENTED, b"grpc-encoding may be identity, gzip or deflate", (heads.ENCODINGS,))
        try:
            timeout_s = head.timeout_s
        except ValueError as error:
            raise CallEnded(Code.INVALID_ARGUMENT, str(error).encode()) from None
        call = ServerCall(self, stream_id, method, head, timeout_s, Inbox(self._server.held, limits.max_message_bytes))
        if call.head_bytes and not self._server.held.fits(call.head_bytes):
            raise method.refuse(self._server.held.refusal(), head.metadata)
        return call

    def _begin(self, call: ServerCall) -> None:
        self._calls[call.stream_id] = call
        self._server.calls_underway += 1
        self._server.held.now_bytes += call.head_bytes
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
        # There may be a thousand calls to look through, and as many windows that open by a byte.
        if self._sending:
            self._pump_soon()

    def _on_pong(self, _: PingAckReceived) -> None:
        self._pinged_s = math.inf
        if self._leaving:
            self._tell_of_last()


_REACTIONS: Mapping[type[Any], Callable[[GrpcConnection, Any], None]] = {
    RequestReceived: GrpcConnection._on_request,
    DataReceived: GrpcConnection._on_data,
    StreamEnded: GrpcConnection._on_end,
    StreamReset: GrpcConnection._on_reset,
    WindowUpdated: GrpcConnection._on_window,
    RemoteSettingsChanged: GrpcConnection._on_window,
    PingAckReceived: GrpcConnection._on_pong,
}
