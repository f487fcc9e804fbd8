"""The calls of one connection: their methods run in tasks, and each call ends once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.http2 import Http2
from sluice.gateway.grpc.methods import INTERNAL, CallEnded, MessageBody, ServerStream, Stream, Unary
from sluice.gateway.grpc.next_deadline import NextDeadline
from sluice.gateway.grpc.outgoing import Outgoing
from sluice.gateway.grpc.server_context import ServerContext
from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING, deflated, inflated
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import DeadlineExceeded, SluiceError

_logger = logging.getLogger("sluice.grpc")


class CallsInFlight:
    """Owns the calls of a connection, and what they send (`outgoing`). Implements `CallOwner`.

    A call ends with its answer, with an error, or when its client gives it up; then its task is cancelled. `on_empty`
    is called when the last call of a connection that is `closing` has ended, and `on_failure` when an end cannot be
    sent, which is a fault of ours.
    """

    def __init__(
        self,
        server: ServerContext,
        http2: Http2,
        deadline: NextDeadline,
        *,
        on_empty: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._http2 = http2
        self._deadline = deadline
        self._on_empty = on_empty
        self._on_failure = on_failure
        self.by_stream: dict[int, ServerCall] = {}
        """The calls by the ids of their streams."""
        self._reading: dict[int, ServerCall] = {}
        """The calls whose input is incomplete, which have a deadline for it."""
        self._limited: dict[int, ServerCall] = {}
        """The calls that are ended here at their caller's deadline. Unary methods keep it themselves."""
        self.outgoing = Outgoing(http2, server.held, deadline, server.limits.wire.write_timeout_s, self.close)
        self.client_has_called = False
        """Whether the client has begun a call yet. One that was refused counts."""
        self.last_named = False
        """Whether the client was told which call is its last. Calls that come after it are refused."""

    @property
    def closing(self) -> bool:
        """Whether there will be no more calls: the client was told so, or has told us."""
        return self.last_named or self._http2.frames.goaway_received

    # For the calls: see `CallOwner`.

    @property
    def crowded(self) -> bool:
        """Whether more is held for callers than may be."""
        return self._server.held.over

    async def send(self, call: ServerCall, body: MessageBody) -> None:
        """Send one of several messages of a call, compressed where its caller compresses, too."""
        packed = call.packed and 0 < self._server.limits.compress_from_bytes <= len(body)
        if packed:
            liked = ((ACCEPT_ENCODING, call.encoding),)
            body = (await deflated(HttpResponse(0, bytes(body)), liked, self._server.coders)).body
        if not call.closed and call.trailers is None:
            self.outgoing.post(call, bytes(body), packed=packed)

    async def next_message(self, call: ServerCall) -> MessageBody:
        """Take the next message out of a call's inbox, and let the client send another one. Raises `SluiceError`."""
        body, packed = call.inbox.take()
        self.open_window(call)
        return await self._unpacked(call, body) if packed else body

    # From beginning to end.

    def begin(self, call: ServerCall) -> None:
        """Add a call. The method of a stream is started at once, other methods when their message is complete."""
        self.by_stream[call.stream_id] = call
        self._server.calls_in_flight += 1
        self._server.held.now_bytes += call.head_bytes
        if isinstance(call.method, Stream):
            call.task = self._loop.create_task(self._run_stream(call, call.method))
            self._limit(call)
        else:
            self.await_input(call)

    def await_input(self, call: ServerCall) -> None:
        """Give a message that has begun, or must come, a deadline."""
        if call.stream_id not in self._reading:
            self._reading[call.stream_id] = call
            call.timed_bytes = call.total_bytes
            call.read_deadline_s = self._loop.time() + self._server.limits.wire.request_read_timeout_s
            self._deadline.due(call.read_deadline_s)

    def input_complete(self, call: ServerCall) -> None:
        """Forget that deadline: no message is incomplete."""
        self._reading.pop(call.stream_id, None)

    def open_window(self, call: ServerCall) -> None:
        """Let the client send as much of a call as its inbox has room for."""
        wanted = call.inbox.wanted_bytes
        if call.window_bytes * 2 < wanted and not call.input_ended and self._http2.is_open(call.stream_id):
            self._http2.machine.increment_flow_control_window(wanted - call.window_bytes, call.stream_id)
            if call.window_bytes <= 0:
                call.read_deadline_s = max(
                    call.read_deadline_s, self._loop.time() + self._server.limits.wire.request_read_timeout_s
                )
            call.window_bytes = wanted
            self._http2.flush_soon()

    def run_single(self, call: ServerCall, method: Unary | ServerStream) -> None:
        """Start the method of a call whose one message is complete."""
        body, packed = call.inbox.take()
        call.task = self._loop.create_task(self._run_single(call, method, body, packed))
        if isinstance(method, ServerStream):
            self._limit(call)

    def refuse(self, call: ServerCall, error: SluiceError) -> None:
        """End a call because of its input, as its method words the error."""
        call.inbox.drop()
        self.outgoing.finish(call, call.method.refuse(error, call.headers))
        self._cancel(call)

    def close(self, call: ServerCall) -> None:
        """Remove a call that is over: cancel its task, and count what it held no more."""
        if call.closed:
            return
        call.closed = True
        stream_id = call.stream_id
        self.by_stream.pop(stream_id, None)
        self._reading.pop(stream_id, None)
        self._limited.pop(stream_id, None)
        if call.unsent:
            self.outgoing.drop(call)
        self._server.calls_in_flight -= 1
        self._server.held.now_bytes -= call.head_bytes
        if call.inbox.held_bytes:
            call.inbox.drop()
        if call.task is not None:
            self._cancel(call)
        if not self.by_stream and self.closing:
            self._on_empty()

    def close_all(self) -> None:
        """Remove all calls."""
        for call in list(self.by_stream.values()):
            self.close(call)

    def look_at_clock(self, now: float) -> None:
        """End the calls that are past a deadline."""
        wire = self._server.limits.wire
        for call in list(self._reading.values()):
            call.read_deadline_s += (call.total_bytes - call.timed_bytes) / wire.min_body_bytes_per_s
            call.timed_bytes = call.total_bytes
            if call.window_bytes <= 0:
                # The client must not send more: the wait is ours.
                call.read_deadline_s = now + wire.request_read_timeout_s
            if call.read_deadline_s <= now:
                self.refuse(call, DeadlineExceeded("the message was not complete in time"))
            else:
                self._deadline.due(call.read_deadline_s)
        self.outgoing.look_at_clock(now)
        for call in list(self._limited.values()):
            left_s = call.time_remaining() or 0.0
            if left_s <= 0:
                self.outgoing.finish(call, CallEnded(Code.DEADLINE_EXCEEDED, b"the deadline has passed"))
                self._limited.pop(call.stream_id, None)
                self._cancel(call)
            else:
                self._deadline.due(now + left_s)

    def _limit(self, call: ServerCall) -> None:
        if call.deadline_s < math.inf:
            self._limited[call.stream_id] = call
            self._deadline.due(self._loop.time() + (call.time_remaining() or 0.0))

    # The tasks.

    def _cancel(self, call: ServerCall) -> None:
        task, call.task = call.task, None
        if task is not None and not task.done():
            task.cancel()
            self._server.ending.add(task)
            task.add_done_callback(self._server.ending.discard)

    async def _run_single(
        self, call: ServerCall, method: Unary | ServerStream, body: MessageBody, packed: bool
    ) -> None:
        held = self._server.held
        answer: bytes | None = None
        size_bytes = len(body)
        held.now_bytes += size_bytes
        try:
            if packed:
                body = await self._unpacked(call, body)
                held.now_bytes += len(body) - size_bytes
                size_bytes = len(body)
            if isinstance(method, Unary):
                answering = method.answer(body, call)
                if size_bytes >= LARGE_BYTES:
                    # From here on only the method has it: it counts the body, and frees it when it has read it.
                    held.now_bytes -= size_bytes
                    body, size_bytes = b"", 0
                answer = await answering
                if call.packed and 0 < self._server.limits.compress_from_bytes <= len(answer):
                    await self.send(call, answer)
                    answer = None
            else:
                await method.answer(body, call)
            end = CallEnded(Code.OK, b"", call.trailing)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            answer, end = None, self._end_for(call, error)
        finally:
            held.now_bytes -= size_bytes
        self._answered(call, answer, end)

    async def _run_stream(self, call: ServerCall, method: Stream) -> None:
        try:
            await method.answer(call.messages(), call)
            end = CallEnded(Code.OK, b"", call.trailing)
        except asyncio.CancelledError:
            raise
        except BaseExceptionGroup as errors:
            # A stream is answered in several tasks; the first one that failed says why.
            end = self._end_for(call, errors.exceptions[0])
        except Exception as error:
            end = self._end_for(call, error)
        self._answered(call, None, end)

    def _answered(self, call: ServerCall, answer: bytes | None, end: CallEnded) -> None:
        """Send what a method returned, and how it ended."""
        call.task = None
        if call.closed:
            return
        try:
            if answer is not None:
                self.outgoing.post(call, answer, packed=False)
            self.outgoing.finish(call, end)
        except Exception as error:
            self._on_failure(error)

    def _end_for(self, call: ServerCall, error: BaseException) -> CallEnded:
        if isinstance(error, CallEnded):
            return error
        if isinstance(error, SluiceError):
            return call.method.refuse(error, call.headers)
        self._server.faults.error(_logger, "a gRPC method failed", error)
        return INTERNAL

    async def _unpacked(self, call: ServerCall, body: MessageBody) -> MessageBody:
        """A compressed message, inflated. Raises `SluiceError`, `CallEnded`."""
        if call.encoding == b"identity":
            raise CallEnded(Code.INVALID_ARGUMENT, b"a message is compressed, and grpc-encoding does not say how")
        call.packed = True
        server = self._server
        return await inflated(body, call.encoding, server.limits.max_message_bytes, server.held, server.coders)
