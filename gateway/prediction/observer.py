"""Records each prediction call in metrics, the log and traces, and says where its time went in `Server-Timing`."""

from __future__ import annotations

import time

from sluice.gateway.dialects.base import Call
from sluice.gateway.headers.request_ids import REQUEST_ID, RequestIds
from sluice.gateway.headers.server_timing import server_timing, total_timing
from sluice.gateway.headers.trace_context import TRACEPARENT, TRACESTATE, trace_parent
from sluice.gateway.messages import Header
from sluice.gateway.prediction.outcomes import outcome_of, refusal_of
from sluice.gateway.telemetry.call_log import CallLog
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.model_metrics import CallMetrics, ModelMetrics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.errors import SluiceError
from sluice.inference.types import InferenceResponse, Timings

NAME_CHARACTERS = 256
"""How much of a model's name is kept as the caller wrote it: a trace may hold it for a while."""


class Observer:
    """Follows each call from `begin` to one of its ends, which returns the value of `Server-Timing`."""

    headers = frozenset({REQUEST_ID, TRACEPARENT, TRACESTATE})
    """The names of the headers that `begin` reads."""

    def __init__(
        self, unknown_model: CallMetrics, call_log: CallLog, request_ids: RequestIds, tracer: Tracer | None = None
    ) -> None:
        self._unknown_model = unknown_model
        self._log = call_log
        self._request_ids = request_ids
        self._tracer = tracer

    def begin(self, dialect: str, call: Call, headers: tuple[Header, ...]) -> CallRecord:
        """The record of a call that begins now."""
        model = call.model if len(call.model) <= NAME_CHARACTERS else call.model[:NAME_CHARACTERS]
        record = CallRecord(
            *(dialect, model, call.version, self._request_ids.of(headers), self._unknown_model, time.monotonic())
        )
        parent = trace_parent(headers) if headers else None
        if parent is not None and parent.sampled:
            record.trace_id = parent.trace_id
        if self._tracer is not None and (trace := self._tracer.begin(parent)) is not None:
            record.trace, record.trace_id = trace, trace.id
        return record

    def answered(
        self,
        record: CallRecord,
        metrics: ModelMetrics,
        response: InferenceResponse,
        status: int,
        promise_s: float | None,
    ) -> bytes:
        """Record an answered call. `promise_s` is the time that was promised for it, if any was."""
        record.ended_s = ended_s = time.monotonic()
        metrics.answered(
            response.timings,
            record.decoded_s - record.started_s,
            ended_s - record.walked_s,
            cached=response.cached is not None,
        )
        record.status = status
        return self._succeeded(record, metrics, response, response.timings, promise_s)

    def repeated(
        self,
        record: CallRecord,
        metrics: ModelMetrics,
        response: InferenceResponse,
        status: int,
        promise_s: float | None,
    ) -> bytes:
        """Record a call that was answered from the cache without being decoded."""
        record.ended_s = time.monotonic()
        metrics.repeated(record.duration_s)
        record.status = status
        return self._succeeded(record, metrics, response, Timings(cache_s=record.duration_s), promise_s)

    def refused(self, record: CallRecord, status: int, error: SluiceError) -> bytes:
        """Record a call that was refused, or whose model failed."""
        if (reason := refusal_of(error)) is not None:
            record.metrics.refused(reason)
        return self._ended(record, status, outcome_of(error), error)

    def failed(self, record: CallRecord, status: int, error: Exception) -> bytes:
        """Record a call that failed through a bug of ours."""
        return self._ended(record, status, CallOutcome.FAILED, error)

    def cancelled(self, record: CallRecord, status: int) -> None:
        """Record a call whose client has gone."""
        self._ended(record, status, CallOutcome.CANCELLED, None)

    def unread(self, record: CallRecord, status: int, error: SluiceError) -> bytes:
        """Record a call that was refused before it was read completely. It has no duration."""
        record.ended_s, record.status, record.outcome = record.started_s, status, outcome_of(error)
        record.metrics.request_unread(record.dialect, record.outcome)
        if (reason := refusal_of(error)) is not None:
            record.metrics.refused(reason)
        self._log.ended(record, error)
        self._trace(record)
        return total_timing(0.0)

    def _succeeded(
        self,
        record: CallRecord,
        metrics: ModelMetrics,
        response: InferenceResponse,
        timings: Timings,
        promise_s: float | None,
    ) -> bytes:
        duration_s = record.ended_s - record.started_s
        metrics.ledger.last_s = record.ended_s
        record.version, record.timings, record.cached = response.version, timings, response.cached
        if response.late:
            record.outcome = CallOutcome.LATE
        if promise_s is not None:
            metrics.promise_ended(promise_s - duration_s)
        metrics.request_ended(record.dialect, record.outcome, duration_s, record.trace_id)
        self._log.answered(record, duration_s)
        self._trace(record)
        return server_timing(timings, duration_s, cached=response.cached is not None)

    def _ended(self, record: CallRecord, status: int, outcome: CallOutcome, error: Exception | None) -> bytes:
        record.ended_s, record.status, record.outcome = time.monotonic(), status, outcome
        record.metrics.request_ended(record.dialect, outcome, record.duration_s, record.trace_id)
        self._log.ended(record, error)
        self._trace(record)
        return total_timing(record.duration_s)

    def _trace(self, record: CallRecord) -> None:
        if self._tracer is not None and record.trace is not None:
            self._tracer.call_ended(record)
