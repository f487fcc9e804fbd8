"""The data plane: from the bytes of one prediction call to the bytes of its answer.

Everything between the socket and the batcher costs more than the batcher and a small model together, so this path
is short: no framework, one coroutine, one place that writes metrics and the log line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.cache_control import CACHE_CONTROL, with_caching, x_cache
from gateway.dialects.base import Call, Dialect
from gateway.http.messages import Header, HttpResponse
from gateway.http.request_ids import REQUEST_ID, RequestIds
from gateway.outcomes import outcome_of, refusal_of
from gateway.server_timing import server_timing, total_timing
from gateway.serving import Catalogue
from gateway.telemetry.logs import Sampler, log
from gateway.telemetry.metrics import CallMetrics, Metrics, Outcome
from gateway.timeouts import REQUEST_TIMEOUT, within_timeout
from gateway.trace_context import TRACEPARENT, sampled_trace
from inference.errors import InvalidRequest, ModelNotFound, SluiceError
from inference.types import InferenceResponse, Timings

REMEMBERED_TARGETS, REMEMBERED_BYTES = 1024, 256
"""So many routes of recent targets are remembered, of targets up to this length: callers use few different ones."""

CLIENT_GONE = 499
"""What the log says as the status of an answer that nobody waited for, as nginx does."""


class MethodNotAllowed(InvalidRequest):
    """A prediction route was called with another method than POST. HTTP's own affair, and so known here alone."""


class Route(msgspec.Struct, frozen=True):
    """Where a request target leads: to a call of a dialect, or to what is wrong with it."""

    dialect: Dialect
    call: Call
    fault: SluiceError | None = None


class Plane:
    """Answers prediction calls of every dialect. Implements `gateway.http.messages.DataPlane`."""

    def __init__(
        self,
        catalogue: Catalogue,
        dialects: Sequence[Dialect],
        metrics: Metrics,
        request_ids: RequestIds,
        *,
        max_body_bytes: int,
        successes_logged_per_s: int,
        refusals_logged_per_s: int,
        slow_s: float,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._catalogue = catalogue
        self._dialects = tuple(dialects)
        self._unknown_model = metrics.unknown_model
        self._samplers: dict[Outcome, Sampler] = {
            outcome: Sampler(successes_logged_per_s if outcome is Outcome.SUCCESS else refusals_logged_per_s)
            for outcome in Outcome
            if outcome is not Outcome.FAILED
        }
        self._slow_s = slow_s
        self._request_ids = request_ids
        self._heeded = frozenset({REQUEST_ID, REQUEST_TIMEOUT, CACHE_CONTROL, TRACEPARENT}).union(
            *[each.headers for each in self._dialects]
        )
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
                return Route(dialect, Call("", None), fault)
            if call is not None:
                return Route(dialect, call)
        return None

    async def answer(
        self, route: Route, method: str, headers: Sequence[Header], body: bytes | bytearray
    ) -> HttpResponse:
        """The answer to one call, observed. Never raises, save for cancellation: the client has gone."""
        started_s = time.perf_counter()
        dialect = route.dialect
        metrics: CallMetrics = self._unknown_model
        # One walk for everybody: most calls have many headers, and none of these.
        heeded: tuple[Header, ...] = ()
        for header in headers:
            if header[0] in self._heeded:
                heeded = (*heeded, header)
        request_id = self._request_ids.of(heeded)
        end: InferenceResponse | Exception
        cached: bytes | None = None
        trace_id = sampled_trace(heeded) if heeded else None
        try:
            if route.fault is not None:
                # The route may be remembered: without this, its error would grow by a traceback with each call.
                raise route.fault.with_traceback(None)
            served = self._catalogue.resolve(route.call.model, route.call.version)
            meters = metrics = served.metrics
            if method != "POST":
                raise MethodNotAllowed(f"method {method} is not allowed here; use POST")
            repeat = served.repeats.find(dialect.name, body, heeded)
            if repeat is not None:
                end, answer = repeat.response, repeat.answer
                duration_s = time.perf_counter() - started_s
                meters.repeated(duration_s)
                timing = server_timing(Timings(cache_s=duration_s), duration_s, cached=True)
                promise_s = served.objective_s
            else:
                request = dialect.decode(body, heeded, served.signature)
                if heeded or request.timeout_s is not None:
                    request = with_caching(request, heeded)
                    request = within_timeout(request, heeded, time.perf_counter() - started_s)
                decoded_s = time.perf_counter()
                end = await served.walk(request)
                walked_s = time.perf_counter()
                answer = dialect.encode(request, end)
                served.repeats.keep(dialect.name, body, request, end, answer)
                encoded_s = time.perf_counter()
                duration_s = encoded_s - started_s
                asked = end.cached is not None
                meters.answered(end.timings, decoded_s - started_s, encoded_s - walked_s, cached=asked)
                timing = server_timing(end.timings, duration_s, cached=asked)
                promise_s = request.timeout_s if served.objective_s is None else served.objective_s
            if promise_s is not None:
                meters.promise_ended(promise_s - duration_s)
            outcome = Outcome.LATE if end.late else Outcome.SUCCESS
            if end.cached is not None:
                cached = x_cache(end.cached)
        except SluiceError as error:
            end, outcome = error, outcome_of(error)
            answer = _refusal(dialect, error)
            if (reason := refusal_of(error)) is not None:
                metrics.refused(reason)
        except asyncio.CancelledError as gone:
            duration_s = time.perf_counter() - started_s
            metrics.request_ended(dialect.name, Outcome.CANCELLED, duration_s, trace_id)
            self._log(route, request_id, CLIENT_GONE, Outcome.CANCELLED, duration_s, gone, trace_id)
            raise
        except Exception as error:
            end, outcome = error, Outcome.FAILED
            answer = dialect.refuse(SluiceError("internal error; the log has the details under this request's id"))
        if isinstance(end, Exception):
            duration_s = time.perf_counter() - started_s
            timing = total_timing(duration_s)
        metrics.request_ended(dialect.name, outcome, duration_s, trace_id)
        self._log(route, request_id, answer.status, outcome, duration_s, end, trace_id)
        return HttpResponse(answer.status, answer.body, answer.headers, request_id, cached, timing)

    def _log(
        self,
        route: Route,
        request_id: bytes,
        status: int,
        outcome: Outcome,
        duration_s: float,
        end: InferenceResponse | BaseException,
        trace_id: str | None = None,
    ) -> None:
        sampler = self._samplers.get(outcome)
        slow = duration_s >= self._slow_s and isinstance(end, InferenceResponse)
        kept_back = 0 if sampler is None or slow else sampler.admit()
        if kept_back is None:
            return
        facts: dict[str, Any] = {
            "request_id": request_id.decode(),
            "model": route.call.model[:128],
            "version": route.call.version,
            "dialect": route.dialect.name,
            "status": status,
            "outcome": outcome.value,
            "duration_ms": _milliseconds(duration_s),
        }
        if trace_id is not None:
            facts["trace_id"] = trace_id
        if kept_back:
            facts["lines_kept_back"] = kept_back
        if isinstance(end, InferenceResponse):
            facts["version"] = end.version
            facts["queue_ms"] = _milliseconds(end.timings.queue_s)
            facts["compute_ms"] = _milliseconds(end.timings.compute_s)
            facts["batch_rows"] = end.timings.batch_rows
            if end.cached is not None:
                facts["cache_ms"] = _milliseconds(end.timings.cache_s)
                facts["cache_hits"], facts["cache_rows"] = end.cached.hits, end.cached.rows
            if slow:
                facts["slow"] = True
            tell = log.warning if slow or outcome is Outcome.LATE else log.info
            tell("prediction", **facts)
        elif outcome is Outcome.FAILED:
            log.error("prediction", error=str(end), exc_info=None if isinstance(end, SluiceError) else end, **facts)
        else:
            log.warning("prediction", error=str(end) or "the client has gone", **facts)

    def refuse(self, route: Route, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        """The answer to a request that a lane turned away before it was read whole, observed."""
        dialect, outcome = route.dialect, outcome_of(error)
        request_id = self._request_ids.of(headers)
        try:
            metrics: CallMetrics = self._catalogue.resolve(route.call.model, route.call.version).metrics
        except ModelNotFound:
            metrics = self._unknown_model
        metrics.request_unread(dialect.name, outcome)
        if (reason := refusal_of(error)) is not None:
            metrics.refused(reason)
        refusal = dialect.refuse(error)
        self._log(route, request_id, refusal.status, outcome, 0.0, error)
        return HttpResponse(refusal.status, refusal.body, refusal.headers, request_id, timing=total_timing(0.0))


def _refusal(dialect: Dialect, error: SluiceError) -> HttpResponse:
    refusal = dialect.refuse(error)
    if isinstance(error, MethodNotAllowed):
        return HttpResponse(405, refusal.body, (*refusal.headers, (b"allow", b"POST")))
    return refusal


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
