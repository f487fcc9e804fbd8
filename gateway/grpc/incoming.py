"""What a client sends on the streams of a connection, turned into calls and their messages."""

from __future__ import annotations

from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset

from sluice.gateway.grpc import heads
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.calls_in_flight import CallsInFlight
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.frames import ErrorCode
from sluice.gateway.grpc.heads import CallHead, Malformed, head_of
from sluice.gateway.grpc.http2 import Http2
from sluice.gateway.grpc.inbox import Inbox
from sluice.gateway.grpc.limits import CONNECTION_WINDOW_BYTES
from sluice.gateway.grpc.methods import CallEnded, Stream, unimplemented
from sluice.gateway.grpc.server_context import ServerContext
from sluice.inference.errors import InvalidRequest, SluiceError

ENCODINGS = (b"identity", b"gzip", b"deflate")


class Incoming:
    """Reacts to h2's events about streams. What is wrong with a call ends that call alone."""

    def __init__(self, server: ServerContext, http2: Http2, calls: CallsInFlight) -> None:
        self._server = server
        self._http2 = http2
        self._calls = calls
        self._unacknowledged_bytes = 0

    def on_request(self, event: RequestReceived) -> None:
        """The headers of a call have come: begin it, or refuse it."""
        stream_id = event.stream_id
        assert stream_id is not None
        if not self._http2.is_open(stream_id):
            return  # the same frames have taken it back
        if self._calls.last_named:
            self._http2.reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._calls.client_has_called = True
        try:
            head = head_of(event.headers)
        except Malformed:
            self._http2.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if head.method != b"POST":
            self._http2.end_stream(stream_id, heads.WRONG_METHOD)
        elif not head.content_type.startswith(b"application/grpc"):
            self._http2.end_stream(stream_id, heads.WRONG_TYPE)
        else:
            try:
                call = self._admitted(stream_id, head)
            except CallEnded as end:
                trailers = heads.status_headers(end.code, end.told, end.trailing)
                self._http2.end_stream(stream_id, [*heads.ANSWER, *trailers])
            else:
                self._calls.begin(call)

    def on_data(self, event: DataReceived) -> None:
        """A piece of a message has come, or several messages."""
        size = event.flow_controlled_length or 0
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self._http2.machine.increment_flow_control_window(self._unacknowledged_bytes)
            self._unacknowledged_bytes = 0
        calls = self._calls
        call = calls.by_stream.get(event.stream_id or 0)
        if call is None or call.trailers is not None:
            return
        call.window_bytes -= size
        if not event.data:
            calls.open_window(call)
            return
        call.total_bytes += size
        try:
            complete = call.inbox.feed(event.data)
        except SluiceError as error:
            calls.refuse(call, error)
            return
        if event.stream_ended is None:
            calls.open_window(call)
            if isinstance(call.method, Stream):
                if call.inbox.incomplete:
                    calls.await_input(call)
                else:
                    calls.input_complete(call)
        if complete:
            if isinstance(call.method, Stream):
                call.arrived()
            elif len(call.inbox) > 1:
                calls.refuse(call, InvalidRequest("the method takes one message, and there came more"))

    def on_end(self, event: StreamEnded) -> None:
        """The client has sent all of a call."""
        calls = self._calls
        call = calls.by_stream.get(event.stream_id or 0)
        if call is None:
            return
        call.input_ended = True
        calls.input_complete(call)
        if call.trailers is not None:
            return
        if call.inbox.incomplete:
            calls.refuse(call, InvalidRequest("the call ended within a message"))
        elif isinstance(call.method, Stream):
            call.arrived()
        elif not call.inbox:
            calls.refuse(call, InvalidRequest("the method takes one message, and there came none"))
        else:
            calls.run_single(call, call.method)

    def on_reset(self, event: StreamReset) -> None:
        """The client has given up a call."""
        call = self._calls.by_stream.get(event.stream_id or 0)
        if call is not None:
            self._calls.close(call)

    def _admitted(self, stream_id: int, head: CallHead) -> ServerCall:
        """The call that a head begins. Raises `CallEnded`."""
        server, limits = self._server, self._server.limits
        method = server.methods.get(head.path)
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
        free = limits.max_calls - server.calls_in_flight
        if free <= 0:
            raise CallEnded(Code.RESOURCE_EXHAUSTED, b"there are %d calls already" % limits.max_calls)
        if len(self._calls.by_stream) >= free:
            raise CallEnded(
                Code.RESOURCE_EXHAUSTED,
                b"this connection has %d calls, and there are others" % len(self._calls.by_stream),
            )
        if head.encoding not in ENCODINGS:
            raise CallEnded(Code.UNIMPLEMENTED, b"grpc-encoding may be identity, gzip or deflate", (heads.ENCODINGS,))
        try:
            timeout_s = head.timeout_s
        except ValueError as error:
            raise CallEnded(Code.INVALID_ARGUMENT, str(error).encode()) from None
        inbox = Inbox(server.held, limits.max_message_bytes)
        call = ServerCall(self._calls, stream_id, method, head, timeout_s, inbox)
        if call.head_bytes and not server.held.fits(call.head_bytes):
            raise method.refuse(server.held.refusal(), head.metadata)
        return call
