"""Prediction calls over gRPC: they take serialized messages to the data plane, and its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.dialects.base import Call
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.codec import OK, GrpcInfer
from sluice.gateway.grpc.codes import Code
from sluice.gateway.grpc.methods import CallEnded, Context, MessageBody
from sluice.gateway.headers.timeouts import REQUEST_TIMEOUT
from sluice.gateway.messages import Header, HttpResponse
from sluice.gateway.prediction.data_plane import PredictionPlane
from sluice.gateway.prediction.routes import Route
from sluice.inference.errors import SluiceError

STREAM_IN_FLIGHT = 64
"""How many messages of one stream may be unanswered. While so many are, no more are read, and the client waits."""

INFER_RESPONSE = b"\x12"
"""The tag of the field `infer_response` in a `ModelStreamInferResponse`."""


class Calls:
    """`ModelInfer` and `ModelStreamInfer`.

    Metadata mean what headers mean in HTTP, in both directions. A deadline means what `x-request-timeout-ms` means. The
    messages of a stream are counted in `held` here until they are answered; the server counts that of a unary call.
    """

    def __init__(self, plane: PredictionPlane, held: HeldBytes) -> None:
        self._plane = plane
        self._dialect = GrpcInfer()
        self._held = held
        self._stopping = False
        self._readers: set[asyncio.Task[None]] = set()

    async def infer(self, body: MessageBody, context: Context) -> bytes:
        """The answer to one message. Raises `CallEnded` for any other status than `OK`."""
        answering = self._plane.answer(self._route(body), "POST", _headers(context), body)
        del body  # so that a long one is freed once it is read
        answer = await answering
        if answer.status != OK:
            raise CallEnded(answer.status, answer.body, _trailing(answer))
        context.trailing = _trailing(answer)
        return answer.body

    def refuse(self, error: SluiceError, headers: tuple[Header, ...]) -> CallEnded:
        """The end of a call whose message was not, or not wholly, read."""
        answer = self._plane.refuse(Route(self._dialect, Call("")), headers, error)
        return CallEnded(answer.status, answer.body, _trailing(answer))

    async def stream(self, bodies: AsyncIterator[MessageBody], context: Context) -> None:
        """Write an answer for each message, in order. Up to `STREAM_IN_FLIGHT` are computed at a time.

        An error is the answer to its message, and does not end the stream. Raises `CallEnded` when `stop` was called.
        """
        answers: asyncio.Queue[tuple[MessageBody, asyncio.Task[HttpResponse]] | None] = asyncio.Queue()
        places = asyncio.Semaphore(STREAM_IN_FLIGHT)
        async with asyncio.TaskGroup() as group:

            async def read() -> None:
                try:
                    await places.acquire()
                    async for body in bodies:
                        answers.put_nowait((body, group.create_task(self._answer(body, _headers(context)))))
                        await places.acquire()
                except asyncio.CancelledError:
                    if not self._stopping:
                        raise
                finally:
                    answers.put_nowait(None)

            reader = group.create_task(read())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
            while (asked := await answers.get()) is not None:
                body, answering = asked
                await context.write(_streamed(body, await answering))
                places.release()
        if self._stopping:
            raise CallEnded(Code.UNAVAILABLE, b"the gateway is shutting down; connect again")

    def stop(self) -> None:
        """Read no more messages of any stream. Those that were read are answered, and then the streams end."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def _answer(self, body: MessageBody, headers: tuple[Header, ...]) -> HttpResponse:
        with self._held.holding(len(body)):
            return await self._plane.answer(self._route(body), "POST", headers, body)

    def _route(self, body: MessageBody) -> Route:
        try:
            return Route(self._dialect, self._dialect.address(body))
        except SluiceError as fault:
            return Route(self._dialect, Call(""), fault)


def _headers(context: Context) -> tuple[Header, ...]:
    """A call's metadata, with what is left of its deadline as a header."""
    left_s = context.time_remaining()
    if left_s is None or left_s >= 1e9:
        return context.headers
    return (*context.headers, (REQUEST_TIMEOUT, b"%.3f" % max(0.001, left_s * 1e3)))


def _trailing(answer: HttpResponse) -> tuple[Header, ...]:
    named = (
        (b"x-request-id", answer.request_id),
        (b"x-cache", answer.cached),
        (b"server-timing", answer.timing),
        (b"traceresponse", answer.trace),
    )
    return (*answer.headers, *[(name, value) for name, value in named if value is not None])


def _streamed(body: MessageBody, answer: HttpResponse) -> bytes:
    """A serialized `ModelStreamInferResponse` with an answer, or with an error and the id of its request."""
    if answer.status == OK:
        return b"".join((INFER_RESPONSE, _varint(len(answer.body)), answer.body))
    try:
        request_id = pb.ModelInferRequest.FromString(bytes(body)).id
    except DecodeError:
        request_id = ""
    response = pb.ModelInferResponse(id=request_id)
    return pb.ModelStreamInferResponse(error_message=answer.body.decode(), infer_response=response).SerializeToString()


def _varint(value: int) -> bytes:
    """A length as protocol buffers encode it: seven bits per byte, lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
