"""The Prometheus metrics, all of them, and the only place that writes them.

Label values come from the model repository and from fixed tables, never from a caller, so their number is bounded:
a call for an unknown model counts under the empty model name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from batching.report import BatchReport
from gateway.telemetry.tally import CounterFamily, HistogramFamily

SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Outcome(StrEnum):
    """How a prediction call ended."""

    SUCCESS = "success"
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """Where a scrape reads the current state of one model version."""

    queue_rows: Callable[[], float]
    queue_bytes: Callable[[], float]
    batches_in_flight: Callable[[], float]
    workers_alive: Callable[[], float]


class CallMetrics:
    """The metrics of prediction calls for one model version, or for calls that name no model: empty labels then."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._labels = (model, version)
        self._requests = metrics.requests
        self._duration = metrics.request_duration.labels(model, version)

    def request_ended(self, dialect: str, outcome: Outcome, duration_s: float) -> None:
        """Count one prediction call."""
        self._requests.add(*self._labels, dialect, outcome)
        self._duration.observe(duration_s)

    def request_refused(self, dialect: str, outcome: Outcome) -> None:
        """Count one call that was turned away before it was read; it has no duration."""
        self._requests.add(*self._labels, dialect, outcome)


class ModelMetrics(CallMetrics):
    """All metrics of one model version, with its labels already bound where that costs more than counting."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        super().__init__(metrics, model, version)
        self._metrics = metrics
        self._batches = metrics.batches
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._compute = metrics.batch_compute.labels(model, version)
        self._restarts = metrics.worker_restarts.labels(model, version)

    def batch_ended(self, report: BatchReport) -> None:
        """Count one batch that ran."""
        self._batches.add(*self._labels, report.reason, report.outcome)
        self._batch_rows.observe(report.rows)
        self._compute.observe(report.compute_s)

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

    def forget(self) -> None:
        """Take the version's state out of the scrape; what was counted stays."""
        metrics = self._metrics
        for gauge in (metrics.queue_rows, metrics.queue_bytes, metrics.in_flight, metrics.workers):
            gauge.remove(*self._labels)


class Metrics:
    """One registry and the metric families in it."""

    def __init__(self, sluice_version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        model = ["model", "version"]
        Info("sluice_build", "The running Sluice.", registry=registry).info({"version": sluice_version})
        self.requests = CounterFamily(
            "sluice_requests",
            "Prediction calls that ended, by how they ended.",
            [*model, "dialect", "outcome"],
            registry=registry,
        )
        self.request_duration = HistogramFamily(
            "sluice_request_duration_seconds",
            "From the complete request to the encoded answer, in seconds.",
            model,
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
        self.queue_rows = Gauge("sluice_queue_rows", "Rows waiting for a batch.", model, registry=registry)
        self.queue_bytes = Gauge(
            "sluice_queue_bytes", "Bytes of input tensors waiting for a batch.", model, registry=registry
        )
        self.in_flight = Gauge(
            "sluice_batches_in_flight", "Batches that workers have and have not answered.", model, registry=registry
        )
        self.workers = Gauge("sluice_workers", "Worker processes that can take a batch.", model, registry=registry)
        self.worker_restarts = Counter(
            "sluice_worker_restarts", "Worker processes that died and were replaced.", model, registry=registry
        )
        self.unknown_model = CallMetrics(self, "", "")

    def of_model(self, model: str, version: int) -> ModelMetrics:
        """The metrics of one version that the repository holds."""
        return ModelMetrics(self, model, str(version))

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)
