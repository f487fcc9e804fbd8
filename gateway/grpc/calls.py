"""Prediction calls over gRPC: from a message off the wire to the plane, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from gateway.dialects.base import Call
from gateway.dialects.grpc_infer import OK, GrpcInfer
from gateway.grpc import inference_pb2 as pb
from gateway.held_bytes import HeldBytes
from gateway.http.messages import Header, HttpResponse
from gateway.plane import Plane, Route
from gateway.timeouts import REQUEST_TIMEOUT
from inference.errors import SluiceError, Unavailable

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

STATUS_CODES: Mapping[int, grpc.StatusCode] = MappingProxyType({code.value[0]: code for code in grpc.StatusCode})

STREAM_IN_FLIGHT = 64
"""Messages of one stream that are read before the first of them is answered, at most. The client waits then."""

INFER_RESPONSE = b"\x12"
"""The tag of `infer_response` in a `ModelStreamInferResponse`."""


class Calls:
    """`ModelInfer` and `ModelStreamInfer`.

    Metadata are what headers are to HTTP, in both directions. A deadline counts like `x-request-timeout-ms`. A message
    that would pass what `held` may be is refused.
    """

    def __init__(self, plane: Plane, held: HeldBytes) -> None:
        self._plane = plane
        self._dialect = GrpcInfer()
        self._held = held
        self._stopping = False
        self._readers: set[asyncio.Task[None]] = set()

    async def infer(self, body: bytes, context: Context) -> bytes:
        """The answer to one message; any other status than `OK` ends the call."""
        answer = await self._answer(body, _headers(context))
        trailing = _trailing(answer)
        if answer.status != OK:
            await context.abort(STATUS_CODES[answer.status], answer.body.decode(), trailing)
        context.set_trailing_metadata(trailing)
        return answer.body

    async def stream(self, bodies: AsyncIterator[bytes], context: Context) -> None:
        """An answer for each message, in their order; at most `STREAM_IN_FLIGHT` are asked at a time.

        An error ends the message it is about, and not the stream.
        """
        answers: asyncio.Queue[tuple[bytes, asyncio.Task[HttpResponse]] | None] = asyncio.Queue()
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
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway is shutting down; connect again")

    def stop(self) -> None:
        """Read no further message of any stream. What was read is answered, and then the streams end."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def _answer(self, body: bytes, headers: tuple[Header, ...]) -> HttpResponse:
        route = self._route(body)
        if not self._held.fits(len(body)):
            crowded = Unavailable("the gateway holds as many bytes of requests as it may")
            return self._plane.refuse(route, headers, crowded)
        with self._held.holding(len(body)):
            return await self._plane.answer(route, "POST", headers, body)

    def _route(self, body: bytes) -> Route:
        try:
            return Route(self._dialect, self._dialect.address(body))
        except SluiceError as fault:
            return Route(self._dialect, Call(""), fault)


def _headers(context: Context) -> tuple[Header, ...]:
    """A call's metadata, and what is left of its deadline. Metadata in binary mean nothing here."""
    headers = [
        (name.encode(), value.encode("utf-8", "replace"))
        for name, value in context.invocation_metadata() or ()
        if isinstance(value, str)
    ]
    # Without a deadline there is none left, whatever the stubs say.
    left_s = cast("float | None", context.time_remaining())
    if left_s is not None and left_s < 1e9:
        headers.append((REQUEST_TIMEOUT, b"%.3f" % max(0.001, left_s * 1e3)))
    return tuple(headers)


def _trailing(answer: HttpResponse) -> tuple[tuple[str, str], ...]:
    named = (
        (b"x-request-id", answer.request_id),
        (b"x-cache", answer.cached),
        (b"server-timing", answer.timing),
        (b"traceresponse", answer.trace),
    )
    return tuple([(name.decode(), value.decode()) for name, value in (*answer.headers, *named) if value is not None])


def _streamed(body: bytes, answer: HttpResponse) -> bytes:
    """A serialized `ModelStreamInferResponse` with an answer, or with an error and the id of its request."""
    if answer.status == OK:
        return b"".join((INFER_RESPONSE, _varint(len(answer.body)), answer.body))
    try:
        request_id = pb.ModelInferRequest.FromString(body).id
    except DecodeError:
        request_id = ""
    response = pb.ModelInferResponse(id=request_id)
    return pb.ModelStreamInferResponse(error_message=answer.body.decode(), infer_response=response).SerializeToString()


def _varint(value: int) -> bytes:
    """A length as it stands on the wire: seven bits per byte, lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
