"""The data plane: from the bytes of one prediction call to the bytes of its answer.

Everything between the socket and the batcher costs more than the batcher and a small model together. So this path is
short: there is no framework, no queue but the batcher's, and one observer that measures and logs each call.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy

from msgspec.structs import replace

from sluice.cache.turns import Turns as StepTurns
from sluice.gateway.connections.held_bytes import HeldBytes, HeldShare
from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.dialects.base import Callee, Dialect, MethodNotAllowed
from sluice.gateway.headers.cache_control import CACHE_CONTROL, with_caching, x_cache
from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING, CONTENT_ENCODING, UnknownEncoding, deflated
from sluice.gateway.headers.timeouts import REQUEST_TIMEOUT, granted_s, within_timeout
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.gateway.prediction.encoding_steps import in_turns, is_large, size_bytes
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.prediction.routes import Route, Routes
from sluice.gateway.reading.body_reading import BodyReading
from sluice.gateway.reading.large_body import LargeBody
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.gate import Gate
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.inference.errors import ModelNotFound, ModelNotReady, SluiceError
from sluice.inference.types import CacheUse, InferenceRequest, InferenceResponse

ONE_HIT = x_cache(CacheUse(1, 1))
"""The value of `x-cache` for a repeated call."""


class PredictionPlane:
    """Answers prediction calls of every dialect. Implements `gateway.messages.DataPlane`.

    `request_timeout_s` bounds how long a body may take to be read. Answers from `compress_from_bytes` on are compressed
    if the caller accepts it; 0 means never. `turns_of_steps` are the turns that the steps of large answers take.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        dialects: Sequence[Dialect],
        observer: Observer,
        *,
        max_body_bytes: int,
        compress_from_bytes: int = 0,
        request_timeout_s: float = 60.0,
        intake: BodyReading | None = None,
        turns_of_steps: StepTurns | None = None,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self.loop_turns = LoopTurns()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Turns of the event loop are measured only for gates, from the first call of a version that has one.
        self._has_gates = False
        self._request_timeout_s = request_timeout_s
        self._intake = intake or BodyReading(HeldBytes(sys.maxsize), max_body_bytes)
        self.coders = self._intake.coders
        self._steps = turns_of_steps or StepTurns()
        self._compress_from_bytes = compress_from_bytes or sys.maxsize
        self._catalogue = catalogue
        self._observer = observer
        # An attribute instead of a method, since every request asks for its route.
        self.recognise: Callable[[bytes], Route | None] = Routes(dialects).recognise
        self._everywhere = observer.headers | {REQUEST_TIMEOUT, CACHE_CONTROL, CONTENT_ENCODING, ACCEPT_ENCODING}
        self._heeded = {each: self._everywhere | each.headers for each in dialects}

    async def answer(
        self, route: Route, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        """Answer one call, observed. It raises nothing but `CancelledError`, when the client has gone."""
        heeded = self._heed(route.dialect, headers)
        observer, dialect = self._observer, route.dialect
        record = observer.begin(dialect.name, route.call, heeded)
        record.came_s = min(came_s, record.started_s)
        if self._has_gates:
            self.loop_turns.worked(self._turn_s(), record.started_s)
        try:
            encoding = self._intake.takes(body, heeded)
            if encoding is None:
                assert not isinstance(body, LongBody)
                answer, timing, cached = await self._walk(record, route, method, heeded, body)
            else:
                with HeldShare(self._intake.held) as share:
                    # Only `large` refers to the body from here on, so that its memory can be freed while it is read.
                    large = self._intake.body(body, share, self._deadline_s(record, heeded))
                    body = b""
                    answer, timing, cached = await self._unpacked(record, route, method, heeded, large, encoding)
        except SluiceError as error:
            answer, cached = _refusal(dialect, error), None
            timing = observer.refused(record, answer.status, error)
        except asyncio.CancelledError:
            observer.cancelled(record, dialect.client_gone)
            raise
        except Exception as error:
            refusal = SluiceError("internal error; the log has the details under this request's id")
            answer, cached = dialect.refuse(refusal), None
            timing = observer.failed(record, answer.status, error)
        if self._has_gates:
            self.loop_turns.worked(self._turn_s(), record.ended_s)
        if heeded and len(answer.body) >= self._compress_from_bytes:
            answer = await deflated(answer, heeded, self._intake.coders)
        trace = None if record.trace is None else record.trace.response
        return HttpResponse(answer.status, answer.body, answer.headers, record.request_id, cached, timing, trace)

    async def _unpacked(
        self,
        record: CallRecord,
        route: Route,
        method: str,
        heeded: tuple[Header, ...],
        large: LargeBody,
        encoding: bytes,
    ) -> tuple[HttpResponse, bytes, bytes | None]:
        """As `_walk`, for a body that is large or compressed."""
        try:
            if not encoding:
                return await self._walk(record, route, method, heeded, large)
            if route.fault is None:
                # A call that will be refused anyway is refused before its body is inflated.
                if route.call.model:
                    self._catalogue.resolve(route.call.model, route.call.version, route.call.label)
                _check_method(route.dialect, method)
            return await self._walk(record, route, method, heeded, await self._intake.inflated(large, encoding))
        finally:
            large.close()

    async def _walk(
        self,
        record: CallRecord,
        route: Route,
        method: str,
        heeded: tuple[Header, ...],
        body: bytes | bytearray | LargeBody,
    ) -> tuple[HttpResponse, bytes, bytes | None]:
        """The dialect's answer, and the values of `server-timing` and `x-cache`.

        This is one long function since each call in it would cost every request.
        """
        if route.fault is not None:
            # A raised error holds its traceback, and with it the body of the call, while the route may be remembered.
            raise copy(route.fault)
        dialect = route.dialect
        large = body if isinstance(body, LargeBody) else None
        call = route.call
        if not call.model:
            _check_method(dialect, method)
            call = await self._intake.address(dialect, body) if isinstance(body, LargeBody) else dialect.address(body)
        served = self._catalogue.resolve(call.model, call.version, call.label)
        record.model, record.metrics = served.callee.name, served.metrics
        _check_method(dialect, method)
        gate: Gate | None = None
        let_in_s = record.started_s
        if isinstance(body, LargeBody):
            request = await self._intake.decode(dialect, body, heeded, served.callee)
        else:
            repeat = served.repeats.find(dialect, body, heeded)
            if repeat is not None:
                timing = self._observer.repeated(
                    record, served.metrics, repeat.response, repeat.answer.status, served.objective_s
                )
                return repeat.answer, timing, ONE_HIT
            gate = served.gate
            self._has_gates |= gate is not None
            if gate is not None and not gate.open(record.came_s, let_in_s):
                refusal = await gate.wait(dialect, record.came_s, let_in_s)
                let_in_s = time.monotonic()
                if refusal is not None:
                    timing = self._observer.refused(record, refusal.answer.status, refusal.error)
                    return refusal.answer, timing, None
            if dialect.heavy(body, served.callee):
                request = await self._heavy(record, dialect, body, heeded, served.callee)
            else:
                request = dialect.decode(body, heeded, served.callee)
        if gate is not None:
            request = replace(request, came_s=record.came_s)
        if heeded or request.timeout_s is not None:
            request = with_caching(request, heeded)
            request = within_timeout(request, heeded, time.monotonic() - record.started_s)
        record.decoded_s = time.monotonic()
        try:
            response = await served.walk(request, record.trace)
        except ModelNotReady:
            # The version may have been replaced while the call was on its way: its successor answers then.
            successor = self._catalogue.resolve(call.model, call.version, call.label)
            if successor is served:
                raise
            if large is None:
                return await self._walk(record, route, method, heeded, body)
            if not _read_alike(served.callee, successor.callee):
                raise  # the successor would read the body differently, and the body is no longer there
            served = successor
            record.metrics = served.metrics
            response = await served.walk(request, record.trace)
        record.walked_s = time.monotonic()
        if is_large(response):
            answer = await self._encode_large(dialect, request, response)
        else:
            answer = dialect.encode(request, response)
        if not isinstance(body, LargeBody):
            served.repeats.keep(dialect, body, heeded, request, response, answer)
        promise_s = request.timeout_s if served.objective_s is None else served.objective_s
        timing = self._observer.answered(record, served.metrics, response, answer.status, promise_s)
        if gate is not None:
            gate.answered(let_in_s, record.ended_s, response)
        return answer, timing, None if response.cached is None else x_cache(response.cached)

    async def _encode_large(
        self, dialect: Dialect, request: InferenceRequest, response: InferenceResponse
    ) -> HttpResponse:
        # Both the tensors and the encoded answer count here, until the connection counts the answer.
        with self._intake.held.holding(2 * size_bytes(response)):
            return await in_turns(dialect.encode_in_steps(request, response), self._steps)

    async def _heavy(
        self,
        record: CallRecord,
        dialect: Dialect,
        body: bytes | bytearray,
        heeded: tuple[Header, ...],
        callee: Callee,
    ) -> InferenceRequest:
        """The request in a short body that takes long to decode."""
        with HeldShare(self._intake.held) as share:
            deadline_s = self._deadline_s(record, heeded)
            return await self._intake.heavy(dialect, body, heeded, callee, share, deadline_s)

    def _deadline_s(self, record: CallRecord, heeded: tuple[Header, ...]) -> float:
        """When the body has to be read, as far as the headers tell. The body itself may ask for less time."""
        return record.started_s + min(self._request_timeout_s, granted_s(heeded))

    def _turn_s(self) -> float:
        """When this turn of the event loop began, by the clock of the loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def refuse(self, route: Route, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """Answer a request that was refused before it was read completely, observed."""
        record = self._observer.begin(route.dialect.name, route.call, self._heed(route.dialect, headers))
        with suppress(ModelNotFound):
            served = self._catalogue.resolve(route.call.model, route.call.version, route.call.label)
            record.model, record.metrics = served.callee.name, served.metrics
        refusal = route.dialect.refuse(error)
        timing = self._observer.unread(record, refusal.status, error)
        return HttpResponse(refusal.status, refusal.body, refusal.headers, record.request_id, timing=timing)

    def _heed(self, dialect: Dialect, headers: Sequence[Header]) -> tuple[Header, ...]:
        """The headers that are read here or by the dialect. They are picked once: most calls have many others."""
        names = self._heeded.get(dialect)
        if names is None:  # the dialect of gRPC, which no path names
            names = self._heeded[dialect] = self._everywhere | dialect.headers
        heeded: tuple[Header, ...] = ()
        for header in headers:
            if header[0] in names:
                heeded = (*heeded, header)
        return heeded


def _read_alike(one: Callee, other: Callee) -> bool:
    """Whether two versions decode every body to the same request."""
    return (one.signature, one.config, one.tokenizer) == (other.signature, other.config, other.tokenizer)


def _check_method(dialect: Dialect, method: str) -> None:
    if method not in dialect.methods:
        raise MethodNotAllowed(f"method {method} is not allowed here; use {' or '.join(sorted(dialect.methods))}")


def _refusal(dialect: Dialect, error: SluiceError) -> HttpResponse:
    refusal = dialect.refuse(error)
    if isinstance(error, UnknownEncoding):
        return HttpResponse(415, refusal.body, (*refusal.headers, (ACCEPT_ENCODING, b"gzip, deflate")))
    if isinstance(error, MethodNotAllowed):
        return HttpResponse(
            405, refusal.body, (*refusal.headers, (b"allow", ", ".join(sorted(dialect.methods)).encode()))
        )
    return refusal
