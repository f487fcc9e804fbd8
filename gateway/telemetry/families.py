"""The metric families as a table: their names, labels, help texts and buckets, as docs/metrics.md has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from platform import python_version
from typing import Any, Generic, NamedTuple, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from sluice.gateway.telemetry.exposition import SlicedRegistry
from sluice.gateway.telemetry.tally import CounterFamily, HistogramFamily

FamilyT = TypeVar("FamilyT")

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

MODEL = ("model", "version")


class FamilySpec(NamedTuple, Generic[FamilyT]):
    """One row of the table. `kind` makes the family; `buckets` are the upper bounds of a histogram's buckets."""

    kind: Callable[..., FamilyT]
    name: str
    labels: tuple[str, ...]
    text: str
    buckets: tuple[float, ...] = ()

    def registered(self, registry: CollectorRegistry) -> FamilyT:
        """The family, added to a registry. Raises `ValueError` where its name is taken."""
        bounds = {"bounds": self.buckets} if self.buckets else {}
        return self.kind(self.name, self.text, self.labels, registry=registry, **bounds)


REQUESTS = FamilySpec(
    CounterFamily, "sluice_requests", (*MODEL, "dialect", "outcome"), "Prediction calls that ended, by how they ended."
)
REFUSALS = FamilySpec(
    CounterFamily,
    "sluice_refusals",
    (*MODEL, "reason"),
    "Prediction calls for which there was no time or no room, by what was missing.",
)
REQUEST_DURATION = FamilySpec(
    HistogramFamily,
    "sluice_request_duration_seconds",
    (*MODEL, "dialect", "outcome"),
    "From the complete request to the encoded answer, in seconds.",
    SECONDS_BUCKETS,
)
PHASES = FamilySpec(
    HistogramFamily,
    "sluice_phase_seconds",
    (*MODEL, "phase"),
    "Where the time of answered prediction calls went, in seconds.",
    SECONDS_BUCKETS,
)
SLACK = FamilySpec(
    HistogramFamily,
    "sluice_deadline_slack_seconds",
    MODEL,
    "What was left of the time that was promised for an answer, in seconds; the first bucket holds late ones.",
    SLACK_BUCKETS,
)
LOOP_LAG = FamilySpec(
    HistogramFamily,
    "sluice_event_loop_lag_seconds",
    (),
    "How much later than asked for the gateway's event loop ran a timer, in seconds.",
    SECONDS_BUCKETS,
)
BATCH_ROWS = FamilySpec(HistogramFamily, "sluice_batch_rows", MODEL, "Rows per batch that ran.", ROWS_BUCKETS)
BATCHES = FamilySpec(
    CounterFamily,
    "sluice_batches",
    (*MODEL, "reason", "outcome"),
    "Batches that ran, by why they were dispatched and how they ended.",
)
BATCH_COMPUTE = FamilySpec(
    HistogramFamily,
    "sluice_batch_compute_seconds",
    MODEL,
    "Time that the engine ran per batch, measured in the worker, in seconds.",
    SECONDS_BUCKETS,
)
BATCH_RUN = FamilySpec(
    HistogramFamily,
    "sluice_batch_run_seconds",
    MODEL,
    "How long a batch kept its worker, by the worker's clock, in seconds; batches that gave an answer.",
    SECONDS_BUCKETS,
)
BATCH_PREDICTED = FamilySpec(
    HistogramFamily,
    "sluice_batch_predicted_seconds",
    MODEL,
    "The 95th percentile of the run time as it was predicted for each batch that gave an answer, in seconds.",
    SECONDS_BUCKETS,
)
BATCH_PREDICTIONS = FamilySpec(
    CounterFamily,
    "sluice_batch_predictions",
    (*MODEL, "run"),
    "Batches whose 95th percentile of run time was predicted, by whether they ran within or beyond it; "
    "one in 20 is to be beyond.",
)
PADDING = FamilySpec(
    CounterFamily,
    "sluice_padding_elements",
    (*MODEL, "kind"),
    "Elements of padded inputs: callers' own, and those that were added to them.",
)
CACHE_LOOKUPS = FamilySpec(
    HistogramFamily,
    "sluice_cache_lookup_seconds",
    (*MODEL, "tier"),
    "How long it took to look a request's rows up in a tier of the cache, in seconds.",
    LOOKUP_BUCKETS,
)
ROW_AUDITS = FamilySpec(
    CounterFamily,
    "sluice_row_audits",
    (*MODEL, "outcome"),
    "Rows that were answered in a batch and run once more, alone, by what came of it.",
)
ROW_AUDIT_SECONDS = FamilySpec(
    Counter,
    "sluice_row_audit_seconds",
    MODEL,
    "Time that the engine ran for rows that were run once more, alone, in seconds.",
)
ROWS_MIXED = FamilySpec(
    Gauge,
    "sluice_rows_mixed",
    MODEL,
    "1 since rows were found to influence each other while serving, until the version is ended; else 0.",
)
OBJECTIVE = FamilySpec(
    Gauge,
    "sluice_latency_objective_seconds",
    MODEL,
    "The latency that is promised for each request, in seconds; where one is.",
)
QUEUE_ROWS = FamilySpec(Gauge, "sluice_queue_rows", MODEL, "Rows waiting for a batch.")
QUEUE_BYTES = FamilySpec(Gauge, "sluice_queue_bytes", MODEL, "Bytes of input tensors waiting for a batch.")
IN_FLIGHT = FamilySpec(Gauge, "sluice_batches_in_flight", MODEL, "Batches that workers have and have not answered.")
WORKERS = FamilySpec(Gauge, "sluice_workers", MODEL, "Worker processes that can take a batch.")
WORKERS_BYTES = FamilySpec(
    Gauge,
    "sluice_workers_resident_bytes",
    MODEL,
    "Memory that the worker processes have, shared pages counted for each, in bytes.",
)
LOAD = FamilySpec(
    Gauge,
    "sluice_model_load_seconds",
    MODEL,
    "How long a version in service took from its start to its last warm worker, in seconds.",
)
BROKEN = FamilySpec(
    Gauge, "sluice_models_broken", (), "Models of the repository, and versions of them, that cannot be served."
)
DOORS_REOPENED = FamilySpec(
    Counter, "sluice_doors_reopened", ("door",), "Doors that accepted no connections and were opened anew."
)
TRACED = FamilySpec(
    CounterFamily,
    "sluice_traced_calls",
    ("outcome",),
    "Traced calls by what became of their spans; where tracing is on.",
)
WORKER_DEATHS = FamilySpec(
    CounterFamily,
    "sluice_worker_deaths",
    (*MODEL, "cause"),
    "Worker processes that were lost after they had loaded their model, by what they died of.",
)
WORKER_RESTARTS = FamilySpec(Counter, "sluice_worker_restarts", MODEL, "Worker processes that died and were replaced.")

TABLE: Sequence[FamilySpec[Any]] = (
    REQUESTS,
    REFUSALS,
    REQUEST_DURATION,
    PHASES,
    SLACK,
    LOOP_LAG,
    BATCH_ROWS,
    BATCHES,
    BATCH_COMPUTE,
    BATCH_RUN,
    BATCH_PREDICTED,
    BATCH_PREDICTIONS,
    PADDING,
    CACHE_LOOKUPS,
    ROW_AUDITS,
    ROW_AUDIT_SECONDS,
    ROWS_MIXED,
    OBJECTIVE,
    QUEUE_ROWS,
    QUEUE_BYTES,
    IN_FLIGHT,
    WORKERS,
    WORKERS_BYTES,
    LOAD,
    BROKEN,
    DOORS_REOPENED,
    TRACED,
    WORKER_DEATHS,
    WORKER_RESTARTS,
)
"""Every family, in the order in which a scrape shows them."""


class Families:
    """A registry with all families of the table, and prometheus-client's own about the process.

    `families[REQUESTS]` is the family that the row `REQUESTS` describes.
    """

    def __init__(self, sluice_version: str, engines: Mapping[str, str]) -> None:
        self.registry = registry = SlicedRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("sluice_build", "The running Sluice.", registry=registry).info(
            {"version": sluice_version, "python": python_version(), **engines}
        )
        self._made: Mapping[str, Any] = {spec.name: spec.registered(registry) for spec in TABLE}
        self._histograms = tuple([made for made in self._made.values() if isinstance(made, HistogramFamily)])

    def __getitem__(self, spec: FamilySpec[FamilyT]) -> FamilyT:
        return cast(FamilyT, self._made[spec.name])

    def fold(self) -> None:
        """Sort what histograms observed since the last time into their buckets."""
        for family in self._histograms:
            family.fold()
