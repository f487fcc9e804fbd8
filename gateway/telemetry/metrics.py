"""The Prometheus metrics, all of them, and the only place that writes them.

Label values come from the model repository and from fixed tables, never from a caller, so their number is bounded:
a call for an unknown model counts under the empty model name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from platform import python_version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from batching.report import BatchReport
from batching.report import Outcome as BatchOutcome
from cache.report import Tier
from gateway.telemetry.tally import Count, CounterFamily, HistogramFamily, Tally
from inference.types import Timings

SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
LOOKUP_BUCKETS = (
    *(1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SLACK_BUCKETS = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Outcome(StrEnum):
    """How a prediction call ended."""

    SUCCESS = "success"
    LATE = "late"
    """It was answered, but after its deadline."""
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """A part of the walk of one prediction call."""

    DECODE = "decode"
    CACHE = "cache"
    """Digests, lookups and storing, and waiting for another call that computes the same rows."""
    QUEUE = "queue"
    """From admission to the batch's dispatch."""
    TRANSPORT = "transport"
    """From the batch's dispatch to the answer, less the engine's run: stacking, the way to the worker and back."""
    COMPUTE = "compute"
    ENCODE = "encode"


class Refusal(StrEnum):
    """Why there was no time or no room for a prediction call."""

    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    """It would not have been answered by its deadline, because of what was there before it."""
    DEADLINE = "deadline"
    """The time that it had was over, or too short for this model at any time."""
    NOT_READY = "not_ready"
    CROWDED = "crowded"
    """The bodies of all requests together were over their limit."""


class RunTime(StrEnum):
    """How long a batch ran, beside the 95th percentile that was predicted for it."""

    WITHIN = "within"
    BEYOND = "beyond"


class Element(StrEnum):
    """Where an element of a padded input came from."""

    OWN = "own"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """Where a scrape reads the current state of one model version.

    `objective_s` is the latency that is promised for it, `None` if none is.
    """

    queue_rows: Callable[[], float]
    queue_bytes: Callable[[], float]
    batches_in_flight: Callable[[], float]
    workers_alive: Callable[[], float]
    workers_bytes: Callable[[], float]
    objective_s: float | None = None


class CallMetrics:
    """The metrics of prediction calls for one model version.

    Or for calls that name no version that is `known`: their labels are empty.
    """

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._labels = (model, version)
        self.known = bool(model)
        self._requests = metrics.requests
        self._refusals = metrics.refusals
        self._family = metrics.request_duration
        self._ends: dict[tuple[str, Outcome], tuple[Count, Tally]] = {}

    def request_ended(self, dialect: str, outcome: Outcome, duration_s: float, trace_id: str | None = None) -> None:
        """Count one prediction call. `trace_id` is that of the caller's trace, if the call belongs to one."""
        end = self._ends.get((dialect, outcome))
        if end is None:
            labels = (*self._labels, dialect, outcome)
            end = self._ends[dialect, outcome] = (self._requests.labels(*labels), self._family.labels(*labels))
        requests, duration = end
        requests.value += 1
        if trace_id is None:
            duration.observe(duration_s)
        else:
            duration.observe_traced(duration_s, trace_id)

    def request_unread(self, dialect: str, outcome: Outcome) -> None:
        """Count one call that was turned away before it was read; it has no duration."""
        self._requests.add(*self._labels, dialect, outcome)

    def refused(self, reason: Refusal) -> None:
        """Count why a call was refused; that it ended is counted apart."""
        self._refusals.add(*self._labels, reason)


class ModelMetrics(CallMetrics):
    """All metrics of one model version, with its labels already bound where that costs more than counting."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        super().__init__(metrics, model, version)
        self._metrics = metrics
        self._batches = metrics.batches
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._compute = metrics.batch_compute.labels(model, version)
        self._run = metrics.batch_run.labels(model, version)
        self._predicted = metrics.batch_predicted.labels(model, version)
        self._predictions = metrics.batch_predictions
        self._padding = metrics.padding
        self._cache_lookups = metrics.cache_lookups
        self._restarts = metrics.worker_restarts.labels(model, version)
        phases = [metrics.phases.labels(model, version, phase) for phase in Phase]
        self._decode, self._cache, self._queue, self._transport, self._engine, self._encode = phases
        self._slack = metrics.slack.labels(model, version)
        for dialect in metrics.dialects:
            for outcome in Outcome:
                self._requests.labels(*self._labels, dialect, outcome)
            for reason in Refusal:
                self._refusals.labels(*self._labels, reason)

    def answered(self, timings: Timings, decode_s: float, encode_s: float, *, cached: bool) -> None:
        """Count where the time of one answer went. `cached`: the cache was asked."""
        self._decode.observe(decode_s)
        self._encode.observe(encode_s)
        if cached:
            self._cache.observe(timings.cache_s)
        if timings.batch_rows:
            self._queue.observe(timings.queue_s)
            self._transport.observe(max(0.0, timings.batch_s - timings.compute_s))
            self._engine.observe(timings.compute_s)

    def repeated(self, duration_s: float) -> None:
        """Count one answer that was taken from the cache without decoding the call."""
        self._cache.observe(duration_s)

    def promise_ended(self, slack_s: float) -> None:
        """Count how much of an answer's promised time was left; none or less, and it was late."""
        self._slack.observe(slack_s)

    def loaded(self, load_s: float) -> None:
        """Say how long the version took to load."""
        self._metrics.load.labels(*self._labels).set(load_s)

    def batch_ended(self, report: BatchReport) -> None:
        """Count one batch that ran."""
        self._batches.add(*self._labels, report.reason, report.outcome)
        self._batch_rows.observe(report.rows)
        self._compute.observe(report.compute_s)
        if report.outcome is not BatchOutcome.ANSWERED:
            return
        self._run.observe(report.run_s)
        if report.predicted_s:
            self._predicted.observe(report.predicted_s)
            within = report.run_s <= report.predicted_s
            self._predictions.add(*self._labels, RunTime.WITHIN if within else RunTime.BEYOND)

    def padded(self, own: int, added: int) -> None:
        """Count the elements of one request's padded inputs: its own, and those added."""
        self._padding.add(*self._labels, Element.OWN, by=own)
        self._padding.add(*self._labels, Element.ADDED, by=added)

    def cache_lookups(self, tier: Tier) -> Callable[[float], None]:
        """Whom to tell how long each lookup in a tier took, in seconds."""
        return self._cache_lookups.labels(*self._labels, tier).observe

    def worker_restarted(self) -> None:
        """Count one replaced worker process."""
        self._restarts.inc()

    def watch(self, gauges: ModelGauges) -> None:
        """Let scrapes read the version's state from now on."""
        metrics, labels = self._metrics, self._labels
        metrics.queue_rows.labels(*labels).set_function(gauges.queue_rows)
        metrics.queue_bytes.labels(*labels).set_function(gauges.queue_bytes)
        metrics.in_flight.labels(*labels).set_function(gauges.batches_in_flight)
        metrics.workers.labels(*labels).set_function(gauges.workers_alive)
        metrics.workers_bytes.labels(*labels).set_function(gauges.workers_bytes)
        if gauges.objective_s is not None:
            metrics.objective.labels(*labels).set(gauges.objective_s)

    def forget(self) -> None:
        """Take the version's state out of the scrape; what was counted stays."""
        metrics = self._metrics
        for gauge in metrics.states:
            gauge.remove(*self._labels)


@dataclass(frozen=True, slots=True)
class TracedCalls:
    """How many traced calls' spans were handed to the collector, not taken by it, or dropped to make no caller wait."""

    exported: Count
    failed: Count
    dropped: Count


class Metrics:
    """One registry and the metric families in it.

    Of each model version that is known, the counts that alerts are about begin at zero, for each of `dialects`: of a
    series that begins at one, Prometheus does not see the first failure.
    """

    def __init__(self, sluice_version: str, engine_version: str = "", dialects: Sequence[str] = ()) -> None:
        self.dialects = tuple(dialects)
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        model = ["model", "version"]
        Info("sluice_build", "The running Sluice.", registry=registry).info(
            {"version": sluice_version, "python": python_version(), "onnxruntime": engine_version}
        )
        self.requests = CounterFamily(
            "sluice_requests",
            "Prediction calls that ended, by how they ended.",
            [*model, "dialect", "outcome"],
            registry=registry,
        )
        self.refusals = CounterFamily(
            "sluice_refusals",
            "Prediction calls for which there was no time or no room, by what was missing.",
            [*model, "reason"],
            registry=registry,
        )
        self.request_duration = HistogramFamily(
            "sluice_request_duration_seconds",
            "From the complete request to the encoded answer, in seconds.",
            [*model, "dialect", "outcome"],
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.phases = HistogramFamily(
            "sluice_phase_seconds",
            "Where the time of answered prediction calls went, in seconds.",
            [*model, "phase"],
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.slack = HistogramFamily(
            "sluice_deadline_slack_seconds",
            "What was left of the time that was promised for an answer, in seconds; the first bucket holds late ones.",
            model,
            bounds=SLACK_BUCKETS,
            registry=registry,
        )
        self.loop_lag = HistogramFamily(
            "sluice_event_loop_lag_seconds",
            "How much later than asked for the gateway's event loop ran a timer, in seconds.",
            [],
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.batch_rows = HistogramFamily(
            "sluice_batch_rows", "Rows per batch that ran.", model, bounds=ROWS_BUCKETS, registry=registry
        )
        self.batches = CounterFamily(
            "sluice_batches",
            "Batches that ran, by why they were dispatched and how they ended.",
            [*model, "reason", "outcome"],
            registry=registry,
        )
        self.batch_compute = HistogramFamily(
            "sluice_batch_compute_seconds",
            "Time that the engine ran per batch, measured in the worker, in seconds.",
            model,
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.batch_run = HistogramFamily(
            "sluice_batch_run_seconds",
            "How long a batch kept its worker, in seconds; batches that gave an answer.",
            model,
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.batch_predicted = HistogramFamily(
            "sluice_batch_predicted_seconds",
            "The 95th percentile of the run time as it was predicted for each batch that gave an answer, in seconds.",
            model,
            bounds=SECONDS_BUCKETS,
            registry=registry,
        )
        self.batch_predictions = CounterFamily(
            "sluice_batch_predictions",
            "Batches whose 95th percentile of run time was predicted, by whether they ran within or beyond it; "
            "one in 20 is to be beyond.",
            [*model, "run"],
            registry=registry,
        )
        self.padding = CounterFamily(
            "sluice_padding_elements",
            "Elements of padded inputs: callers' own, and those that were added to them.",
            [*model, "kind"],
            registry=registry,
        )
        self.cache_lookups = HistogramFamily(
            "sluice_cache_lookup_seconds",
            "How long it took to look a request's rows up in a tier of the cache, in seconds.",
            [*model, "tier"],
            bounds=LOOKUP_BUCKETS,
            registry=registry,
        )
        self.objective = Gauge(
            "sluice_latency_objective_seconds",
            "The latency that is promised for each request, in seconds; where one is.",
            model,
            registry=registry,
        )
        self.queue_rows = Gauge("sluice_queue_rows", "Rows waiting for a batch.", model, registry=registry)
        self.queue_bytes = Gauge(
            "sluice_queue_bytes", "Bytes of input tensors waiting for a batch.", model, registry=registry
        )
        self.in_flight = Gauge(
            "sluice_batches_in_flight", "Batches that workers have and have not answered.", model, registry=registry
        )
        self.workers = Gauge("sluice_workers", "Worker processes that can take a batch.", model, registry=registry)
        self.workers_bytes = Gauge(
            "sluice_workers_resident_bytes",
            "Memory that the worker processes have, shared pages counted for each, in bytes.",
            model,
            registry=registry,
        )
        self.load = Gauge(
            "sluice_model_load_seconds",
            "How long a version in service took from its start to its last warm worker, in seconds.",
            model,
            registry=registry,
        )
        self._traced = CounterFamily(
            "sluice_traced_calls",
            "Traced calls by what became of their spans; where tracing is on.",
            ["outcome"],
            registry=registry,
        )
        self._loop_lag = self.loop_lag.labels()
        self._histograms = (
            *(self.request_duration, self.phases, self.slack, self.loop_lag, self.batch_rows, self.batch_compute),
            *(self.batch_run, self.batch_predicted, self.cache_lookups),
        )
        self.states = (
            *(self.queue_rows, self.queue_bytes, self.in_flight, self.workers, self.workers_bytes),
            *(self.objective, self.load),
        )
        self.worker_restarts = Counter(
            "sluice_worker_restarts", "Worker processes that died and were replaced.", model, registry=registry
        )
        self.unknown_model = CallMetrics(self, "", "")

    def of_model(self, model: str, version: int) -> ModelMetrics:
        """The metrics of one version that the repository holds."""
        return ModelMetrics(self, model, str(version))

    def traced_calls(self) -> TracedCalls:
        """What to count traced calls with; from now on a scrape shows it."""
        return TracedCalls(*[self._traced.labels(outcome) for outcome in ("exported", "failed", "dropped")])

    def tick(self, lag_s: float) -> None:
        """Count one look at the event loop, which came to it `lag_s` late, and sort what was observed since the last.

        To be called many times a second: what calls observe is kept one by one until then.
        """
        self._loop_lag.observe(lag_s)
        for family in self._histograms:
            family.fold()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type.

        In OpenMetrics, with exemplars, where `accept` asks for it as Prometheus does; else in Prometheus' text format.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
