"""The metric families: their names, labels, buckets and meanings, as docs/metrics.md has them."""

from __future__ import annotations

from collections.abc import Sequence
from platform import python_version
from typing import Any

from prometheus_client import (
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from sluice.gateway.telemetry.exposition import SlicedRegistry
from sluice.gateway.telemetry.statistics import CallStatistics
from sluice.gateway.telemetry.tally import CounterFamily, HistogramFamily

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


class Families:
    """One registry and the metric families in it. `dialects` are the names of those that are served."""

    def __init__(self, sluice_version: str, engine_version: str = "", dialects: Sequence[str] = ()) -> None:
        self.dialects = tuple(dialects)
        self.registry = registry = SlicedRegistry()
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
            "How long a batch kept its worker, by the worker's clock, in seconds; batches that gave an answer.",
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
        self.row_audits = CounterFamily(
            "sluice_row_audits",
            "Rows that were answered in a batch and run once more, alone, by what came of it.",
            [*model, "outcome"],
            registry=registry,
        )
        self.row_audit_seconds = Counter(
            "sluice_row_audit_seconds",
            "Time that the engine ran for rows that were run once more, alone, in seconds.",
            model,
            registry=registry,
        )
        self.rows_mixed = Gauge(
            "sluice_rows_mixed",
            "1 since rows were found to influence each other while serving, until the version is ended; else 0.",
            model,
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
        self.broken = Gauge(
            "sluice_models_broken",
            "Models of the repository, and versions of them, that cannot be served.",
            registry=registry,
        )
        self.doors_reopened = Counter(
            "sluice_doors_reopened",
            "Doors that accepted no connections and were opened anew.",
            ["door"],
            registry=registry,
        )
        self.traced = CounterFamily(
            "sluice_traced_calls",
            "Traced calls by what became of their spans; where tracing is on.",
            ["outcome"],
            registry=registry,
        )
        self.histograms = (
            *(self.request_duration, self.phases, self.slack, self.loop_lag, self.batch_rows, self.batch_compute),
            *(self.batch_run, self.batch_predicted, self.cache_lookups),
        )
        self.watched: dict[tuple[str, ...], list[Any]] = {}
        """Whose state a scrape reads, by model and version: two of one number live for a moment when it is replaced."""
        self.ledgers: dict[tuple[str, ...], CallStatistics] = {}
        self.states = (
            *(self.queue_rows, self.queue_bytes, self.in_flight, self.workers, self.workers_bytes),
            *(self.objective, self.load, self.rows_mixed),
        )
        self.worker_deaths = CounterFamily(
            "sluice_worker_deaths",
            "Worker processes that were lost after they had loaded their model, by what they died of.",
            [*model, "cause"],
            registry=registry,
        )
        self.worker_restarts = Counter(
            "sluice_worker_restarts", "Worker processes that died and were replaced.", model, registry=registry
        )
