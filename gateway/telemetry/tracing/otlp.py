"""Spans for an OpenTelemetry collector, by OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/).

No other file imports OpenTelemetry. Spans are made when their call is over, from the times that were recorded. Names
of attributes follow the semantic conventions for HTTP servers; those without a convention begin with `sluice.`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from sluice.batching.report import BatchOutcome
from sluice.gateway.telemetry.call_record import CallRecord
from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.traces import BatchTrace, CallTrace

TRACES_PATH = "/v1/traces"
STATUS_ATTRIBUTES = MappingProxyType({"grpc": "rpc.grpc.status_code"})
"""The attribute for the status of a dialect's answers, where it is not HTTP's."""

ANSWERED = frozenset({CallOutcome.SUCCESS, CallOutcome.LATE})
OURS = frozenset({CallOutcome.REFUSED, CallOutcome.TIMEOUT, CallOutcome.FAILED})
"""Outcomes that are not the caller's mistake: the span of the call is marked as an error."""

_RECORDED = TraceFlags(TraceFlags.SAMPLED)

Attributes = Mapping[str, str | int | float | bool]


class _Ids(IdGenerator):
    """Generates the ids that calls and batches were given when they began, and random ids for the spans within."""

    trace_id = 0
    span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, None
        return given or random.getrandbits(64) or 1


class _Ended(SpanProcessor):
    """Collects the spans that ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class OtlpExporter:
    """Sends the spans of calls to the collector at `endpoint`. Implements `tracer.Exporter`.

    `/v1/traces` is added to `endpoint` unless it is there. One `send` takes `timeout_s` at most, with all retries. It
    logs when the collector stops taking spans, and when it takes them again. The library also reads its own environment
    variables, such as `OTEL_RESOURCE_ATTRIBUTES`.
    """

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], timeout_s: float, service_name: str, version: str
    ) -> None:
        # They log every try, with the whole address. A collector that is down is logged once, below.
        for name in ("opentelemetry.exporter", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        address = endpoint.rstrip("/")
        self._exporter = OTLPSpanExporter(
            address if address.endswith(TRACES_PATH) else address + TRACES_PATH, headers=headers, timeout=timeout_s
        )
        self._ids, self._ended = _Ids(), _Ended()
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # only traced calls come here
            resource=Resource.create({"service.name": service_name, "service.version": version}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("sluice", version)
        self._reached = True

    def send(self, calls: Sequence[CallRecord]) -> bool:
        """Send the spans of these calls and of their batches. Returns whether the collector took them."""
        clock = _Clock(time.time_ns() - time.monotonic_ns())
        for call in calls:
            if call.trace is not None:
                self._call(call, call.trace, clock)
            time.sleep(0)  # let the event loop have the interpreter lock, if it waits for it
        spans, self._ended.spans = self._ended.spans, []
        reached = self._exporter.export(spans) is SpanExportResult.SUCCESS
        if reached != self._reached:
            self._reached = reached
            if reached:
                log.info("traces reach the collector again")
            else:
                log.warning("the collector takes no traces: predictions go on without them")
        return reached

    def give_up(self) -> None:
        """Make a `send` that waits for the collector return at once."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # OpenTelemetry declares no types for it

    def _call(self, call: CallRecord, trace: CallTrace, clock: _Clock) -> None:
        name = f"predict {call.model}" if call.metrics.known else "predict"  # unknown names make no new span names
        self._ids.trace_id, self._ids.span_id = trace.trace_id, trace.span_id
        span = self._tracer.start_span(
            name, _context_of(trace), SpanKind.SERVER, _call_attributes(call), start_time=clock.ns(call.started_s)
        )
        inside = set_span_in_context(span, Context())
        if call.decoded_s:
            self._phase("decode", inside, clock.span(call.started_s, call.decoded_s))
        walk = inside
        if call.cached is not None:
            facts = {"sluice.cache.rows": call.cached.rows, "sluice.cache.hits": call.cached.hits}
            times = clock.span(call.decoded_s or call.started_s, call.walked_s or call.ended_s)
            walk = self._phase("cache", inside, times, facts)
        for enqueued_s, batch in trace.batches:
            if not batch.told:
                batch.told = True
                self._batch(batch, clock)
            self._ride(enqueued_s, batch, walk, clock)
        if call.walked_s:
            self._phase("encode", inside, clock.span(call.walked_s, call.ended_s))
        if call.outcome in OURS:
            span.set_status(Status(StatusCode.ERROR, call.outcome))
        span.end(clock.ns(call.ended_s))

    def _ride(self, enqueued_s: float, batch: BatchTrace, walk: Context, clock: _Clock) -> None:
        """The spans of one call's batch: the wait for it, and the batch with the engine's run in it."""
        report = batch.report
        sent_s = report.ended_s - report.wall_s
        self._phase("queue", walk, clock.span(enqueued_s, sent_s))
        link = Link(SpanContext(batch.trace_id, batch.span_id, is_remote=False, trace_flags=_RECORDED))
        inside = self._phase("batch", walk, clock.span(sent_s, report.ended_s), _batch_attributes(batch), [link])
        self._run(batch, inside, clock)

    def _batch(self, batch: BatchTrace, clock: _Clock) -> None:
        """The spans of a batch, in a trace of its own that is linked to the calls in it."""
        report = batch.report
        links = [Link(_context_in(trace)) for trace, _ in report.traced if isinstance(trace, CallTrace)]
        self._ids.trace_id, self._ids.span_id = batch.trace_id, batch.span_id
        times = clock.span(report.ended_s - report.wall_s, report.ended_s)
        inside = self._phase("batch", Context(), times, _batch_attributes(batch), links)
        self._run(batch, inside, clock)

    def _run(self, batch: BatchTrace, inside: Context, clock: _Clock) -> None:
        report = batch.report
        if report.began_s:
            self._phase("compute", inside, clock.span(report.began_s, report.began_s + report.compute_s))

    def _phase(
        self,
        name: str,
        inside: Context,
        times: tuple[int, int],
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
    ) -> Context:
        """Make a span with its beginning and end. Returns the context in which spans are its children."""
        start_ns, end_ns = times
        span = self._tracer.start_span(name, inside, attributes=attributes, links=links, start_time=start_ns)
        if attributes is not None and attributes.get("sluice.batch.outcome", BatchOutcome.ANSWERED) != "answered":
            span.set_status(Status(StatusCode.ERROR, str(attributes["sluice.batch.outcome"])))
        span.end(end_ns)
        return set_span_in_context(span, Context())


class _Clock(NamedTuple):
    """Converts monotonic seconds into nanoseconds since 1970."""

    offset_ns: int

    def ns(self, monotonic_s: float) -> int:
        return int(monotonic_s * 1e9) + self.offset_ns

    def span(self, start_s: float, end_s: float) -> tuple[int, int]:
        return self.ns(start_s), self.ns(end_s)


def _context_in(trace: CallTrace) -> SpanContext:
    return SpanContext(trace.trace_id, trace.span_id, is_remote=False, trace_flags=_RECORDED)


def _context_of(trace: CallTrace) -> Context:
    """The context of the call's own span: the caller's span, or nothing."""
    parent = trace.parent
    if parent is None:
        return Context()
    state = TraceState.from_header([parent.state]) if parent.state else None
    span_id = int(parent.span_id, 16)
    caller = SpanContext(trace.trace_id, span_id, is_remote=True, trace_flags=_RECORDED, trace_state=state)
    return set_span_in_context(NonRecordingSpan(caller), Context())


def _call_attributes(call: CallRecord) -> dict[str, str | int | float | bool]:
    attributes: dict[str, str | int | float | bool] = {
        STATUS_ATTRIBUTES.get(call.dialect, "http.response.status_code"): call.status,
        "sluice.dialect": call.dialect,
        "sluice.model": call.model[:128],
        "sluice.outcome": call.outcome,
        "sluice.request_id": call.request_id.decode("ascii"),
    }
    if call.version is not None:
        attributes["sluice.version"] = call.version
    if call.outcome not in ANSWERED:
        attributes["error.type"] = call.outcome
    return attributes


def _batch_attributes(batch: BatchTrace) -> dict[str, str | int | float | bool]:
    report = batch.report
    return {
        "sluice.batch.rows": report.rows,
        "sluice.batch.jobs": report.jobs,
        "sluice.batch.reason": report.reason,
        "sluice.batch.outcome": report.outcome,
        "sluice.batch.predicted_p95_s": report.predicted_s,
    }
