"""The data plane: from the bytes of one prediction call to the bytes of its answer.

Everything between the socket and the batcher costs more than the batcher and a small model together, so this path
is short: no framework, no queue but the batcher's, and one observer of all that happens.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from functools import lru_cache
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from sluice.cache.turns import Turns as StepTurns
from sluice.gateway.connections.held_bytes import HeldBytes, HeldShare
from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.dialects.base import Call, Callee, Dialect, MethodNotAllowed
from sluice.gateway.headers.cache_control import CACHE_CONTROL, with_caching, x_cache
from sluice.gateway.headers.content_encoding import ACCEPT_ENCODING, CONTENT_ENCODING, UnknownEncoding, deflated
from sluice.gateway.headers.timeouts import REQUEST_TIMEOUT, granted_s, within_timeout
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.gateway.prediction.encoding_steps import in_turns, is_large, size_bytes
from sluice.gateway.prediction.observer import Observer
from sluice.gateway.reading.body_reading import BodyReading
from sluice.gateway.reading.large_body import LargeBody
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.gate import Gate
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.inference.errors import ModelNotFound, ModelNotReady, SluiceError
from sluice.inference.types import CacheUse, InferenceRequest

REMEMBERED_TARGETS, REMEMBERED_BYTES = 1024, 256
"""So many routes of recent targets are remembered, of targets up to this length: callers use few different ones."""

ONE_HIT = x_cache(CacheUse(1, 1))
"""What `x-cache` says of a call that is repeated."""


class Route(msgspec.Struct, frozen=True):
    """Where a request target leads: to a call of a dialect, or to what is wrong with it."""

    dialect: Dialect
    call: Call
    fault: SluiceError | None = None


class PredictionPlane:
    """Answers prediction calls of every dialect. Implements `gateway.messages.DataPlane`."""

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
        # Nobody asks when a call came before a version has a gate.
        self._has_gates = False
        self._request_timeout_s = request_timeout_s
        self._intake = intake or BodyReading(HeldBytes(sys.maxsize), max_body_bytes)
        self.coders = self._intake.coders
        self._steps = turns_of_steps or StepTurns()
        self._compress_from_bytes = compress_from_bytes or sys.maxsize
        self._catalogue = catalogue
        self._dialects = tuple(dialects)
        self._observer = observer
        self._everywhere = observer.headers | {REQUEST_TIMEOUT, CACHE_CONTROL, CONTENT_ENCODING, ACCEPT_ENCODING}
        self._heeded = {each: self._everywhere | each.headers for each in self._dialects}
        self._remembered = lru_cache(maxsize=REMEMBERED_TARGETS)(self._recognise)

    def recognise(self, target: bytes) -> Route | None:
        """The route of a prediction call, or `None` if FastAPI is to answer."""
        return self._remembered(target) if len(target) <= REMEMBERED_BYTES else self._recognise(target)

    def _recognise(self, target: bytes) -> Route | None:
        path = target.partition(b"?")[0].decode("ascii", "replace")
        if "%" in path:
            path = unquote(path)
        for dialect in self._dialects:
            try:
                call = dialect.recognise(path)
            except SluiceError as fault:
                return Route(dialect, Call(""), fault.with_traceback(None))
            if call is not None:
                return Route(dialect, call)
        return None

    async def answer(
        self, route: Route, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        """The answer to one call, observed. Never raises, save for cancellation: the client has gone."""
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
                    # Nobody but this one has the body from here on, so that its memory goes with it.
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
        """As `_walk`, for a body that is large, or may be once it is inflated."""
        try:
            if not encoding:
                return await self._walk(record, route, method, heeded, large)
            if route.fault is None:
                # Nothing is inflated for what is refused anyway.
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
        """The dialect's answer, and what `server-timing` and `x-cache` say of it."""
        if route.fault is not None:
            # The route may be remembered: an error that was raised holds its traceback, and with it the call's body.
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
            successor = self._catalogue.resolve(call.model, call.version, call.label)
            if successor is served:
                raise
            # The version was replaced while the call was on its way to it: its successor answers.
            if large is None:
                return await self._walk(record, route, method, heeded, body)
            if not _read_alike(served.callee, successor.callee):
                raise  # what was read is not what the successor would read, and the body is gone
            served = successor
            record.metrics = served.metrics
            response = await served.walk(request, record.trace)
        record.walked_s = time.monotonic()
        if is_large(response):
            # The tensors and what is made of them, until the answer is the connection's to count.
            with self._intake.held.holding(2 * size_bytes(response)):
                answer = await in_turns(dialect.encode_in_steps(request, response), self._steps)
        else:
            answer = dialect.encode(request, response)
        if not isinstance(body, LargeBody):
            served.repeats.keep(dialect, body, heeded, request, response, answer)
        promise_s = request.timeout_s if served.objective_s is None else served.objective_s
        timing = self._observer.answered(record, served.metrics, response, answer.status, promise_s)
        if gate is not None:
            gate.answered(let_in_s, record.ended_s, response)
        return answer, timing, None if response.cached is None else x_cache(response.cached)

    async def _heavy(
        self,
        record: CallRecord,
        dialect: Dialect,
        body: bytes | bytearray,
        heeded: tuple[Header, ...],
        callee: Callee,
    ) -> InferenceRequest:
        """The request in a short body that takes long to read."""
        with HeldShare(self._intake.held) as share:
            deadline_s = self._deadline_s(record, heeded)
            return await self._intake.heavy(dialect, body, heeded, callee, share, deadline_s)

    def _deadline_s(self, record: CallRecord, heeded: tuple[Header, ...]) -> float:
        """By when the body has to be read: as far as that can be known before it is."""
        return record.started_s + min(self._request_timeout_s, granted_s(heeded))

    def _turn_s(self) -> float:
        """When this turn of the event loop began, by its own time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def refuse(self, route: Route, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """The answer to a request that a lane turned away before it was read whole, observed."""
        record = self._observer.begin(route.dialect.name, route.call, self._heed(route.dialect, headers))
        with suppress(ModelNotFound):
            served = self._catalogue.resolve(route.call.model, route.call.version, route.call.label)
            record.model, record.metrics = served.callee.name, served.metrics
        refusal = route.dialect.refuse(error)
        timing = self._observer.unread(record, refusal.status, error)
        return HttpResponse(refusal.status, refusal.body, refusal.headers, record.request_id, timing=timing)

    def _heed(self, dialect: Dialect, headers: Sequence[Header]) -> tuple[Header, ...]:
        """The headers that mean something here. One walk for everybody: most calls have many, and none of these."""
        names = self._heeded.get(dialect)
        if names is None:  # gRPC's, which comes with no path
            names = self._heeded[dialect] = self._everywhere | dialect.headers
        heeded: tuple[Header, ...] = ()
        for header in headers:
            if header[0] in names:
                heeded = (*heeded, header)
        return heeded


def _read_alike(one: Callee, other: Callee) -> bool:
    """Whether two versions read the same request from any body."""
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
