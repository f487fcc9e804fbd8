"""The calls of one connection: how their methods are run, and what becomes of what they return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.grpc.call import ServerCall
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.methods import Body, CallEnded, ServerStream, Stream, Unary
from sluice.gateway.grpc.server_context import ServerContext
from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING, deflated, inflated
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import SluiceError

_logger = logging.getLogger("sluice.grpc")

INTERNAL = CallEnded(Code.INTERNAL, b"internal error")


class CallsUnderway(asyncio.Protocol):
    """Runs the methods of calls, each in a task of its own; `GrpcConnection` builds on it and puts them on the wire.

    A call ends once: with its answer, with an error, or with its client, which cancels its task.
    """

    _loop: asyncio.AbstractEventLoop

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._calls: dict[int, ServerCall] = {}
        self._reading: dict[int, ServerCall] = {}
        """Those of which something has come, and more must."""
        self._sending: dict[int, ServerCall] = {}
        """Those that have something to send."""
        self._limited: dict[int, ServerCall] = {}
        """Those that are ended here when their deadline has passed; the others see to it themselves."""

    @property
    def crowded(self) -> bool:
        """Whether more is held for callers than may be."""
        return self._server.held.over

    async def send(self, call: ServerCall, body: Body) -> None:
        """Send one of several messages of a call."""
        if call.packed and 0 < self._server.limits.compress_from_bytes <= len(body):
            liked = ((ACCEPT_ENCODING, call.encoding),)
            answer = await deflated(HttpResponse(0, bytes(body)), liked, self._server.coders)
            self._post_if_open(call, answer.body, packed=True)
        else:
            self._post_if_open(call, body, packed=False)

    async def next_message(self, call: ServerCall) -> Body:
        """The next message of a call, which has come; there is room for another one then."""
        body, packed = call.inbox.take()
        self._let_send(call)
        return await self._unpacked(call, body) if packed else body

    def _start(self, call: ServerCall, work: Coroutine[Any, Any, None]) -> None:
        call.task = self._loop.create_task(work)

    def _start_single(self, call: ServerCall, method: Unary | ServerStream) -> None:
        """Begin a call whose one message has come."""
        body, packed = call.inbox.take()
        self._start(call, self._run_single(call, method, body, packed))

    async def _run_single(self, call: ServerCall, method: Unary | ServerStream, body: Body, packed: bool) -> None:
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
                    # It is the method's alone from here on, which counts it, and lets it go.
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
        call.task = None
        if call.closed:
            return
        try:
            if answer is not None:
                self._post(call, answer, packed=False)
            self._finish(call, end)
        except Exception as error:
            self._fail(error)

    async def _run_stream(self, call: ServerCall, method: Stream) -> None:
        try:
            await method.answer(call.messages(), call)
            end = CallEnded(Code.OK, b"", call.trailing)
        except asyncio.CancelledError:
            raise
        except BaseExceptionGroup as errors:
            # What a stream does is done in tasks beside each other; the first that failed says why.
            end = self._end_for(call, errors.exceptions[0])
        except Exception as error:
            end = self._end_for(call, error)
        call.task = None
        if call.closed:
            return
        try:
            self._finish(call, end)
        except Exception as error:
            self._fail(error)

    def _end_for(self, call: ServerCall, error: BaseException) -> CallEnded:
        if isinstance(error, CallEnded):
            return error
        if isinstance(error, SluiceError):
            return call.method.refuse(error, call.headers)
        self._server.faults.error(_logger, "a gRPC method failed", error)
        return INTERNAL

    async def _unpacked(self, call: ServerCall, body: Body) -> Body:
        """A compressed message as it was. Raises `SluiceError`."""
        if call.encoding == b"identity":
            raise CallEnded(Code.INVALID_ARGUMENT, b"a message is compressed, and grpc-encoding does not say how")
        call.packed = True
        server = self._server
        return await inflated(body, call.encoding, server.limits.max_message_bytes, server.held, server.coders)

    def _refuse(self, call: ServerCall, error: SluiceError) -> None:
        """End a call that its method does not get to see, or not whole."""
        call.inbox.drop()
        self._finish(call, call.method.refuse(error, call.headers))
        self._stop(call)

    def _stop(self, call: ServerCall) -> None:
        """Cancel what is underway for a call."""
        task, call.task = call.task, None
        if task is not None and not task.done():
            task.cancel()
            self._server.ending.add(task)
            task.add_done_callback(self._server.ending.discard)

    def _close(self, call: ServerCall) -> None:
        """A call is over, for us and for its client."""
        if call.closed:
            return
        call.closed = True
        stream_id = call.stream_id
        self._calls.pop(stream_id, None)
        self._reading.pop(stream_id, None)
        if self._sending.pop(stream_id, None) is not None:
            self._server.held.now_bytes -= sum(map(len, call.unsent))
            call.unsent.clear()
        self._limited.pop(stream_id, None)
        self._server.calls_underway -= 1
        self._server.held.now_bytes -= call.head_bytes
        if call.inbox.held_bytes:
            call.inbox.drop()
        if call.task is not None:
            self._stop(call)
        if not self._calls:
            self._emptied()

    def _post_if_open(self, call: ServerCall, body: Body, *, packed: bool) -> None:
        if not call.closed and call.trailers is None:
            self._post(call, bytes(body), packed)

    # What the wire does.

    def _post(self, call: ServerCall, body: bytes, packed: bool) -> None:
        raise NotImplementedError

    def _finish(self, call: ServerCall, end: CallEnded) -> None:
        raise NotImplementedError

    def _let_send(self, call: ServerCall) -> None:
        raise NotImplementedError

    def _emptied(self) -> None:
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        raise NotImplementedError
