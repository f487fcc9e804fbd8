"""The metrics of prediction calls and of model versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sluice.batching.report import BatchOutcome, BatchReport
from sluice.cache.report import TierName
from sluice.gateway.telemetry import families as table
from sluice.gateway.telemetry.families import Families
from sluice.gateway.telemetry.labels import AuditOutcome, CallOutcome, Element, Phase, RefusalReason, RunTime
from sluice.gateway.telemetry.statistics import CallStatistics, ModelStatistics, Total, total
from sluice.gateway.telemetry.tally import Count, Tally
from sluice.inference.types import Cause, Death, Timings

STATE = (
    *(table.QUEUE_ROWS, table.QUEUE_BYTES, table.IN_FLIGHT, table.WORKERS, table.WORKERS_BYTES),
    *(table.OBJECTIVE, table.LOAD, table.ROWS_MIXED),
)
"""The families that show the current state of a version."""


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """Functions that read the current state of one model version, for scrapes.

    `objective_s` is the promised latency, or `None`; `load_s` is how long the version took to load.
    """

    queue_rows: Callable[[], float]
    queue_bytes: Callable[[], float]
    batches_in_flight: Callable[[], float]
    workers_alive: Callable[[], float]
    workers_bytes: Callable[[], float]
    objective_s: float | None = None
    load_s: float = 0.0
    rows_mixed: Callable[[], float] = lambda: 0.0


class Loads:
    """What all loads of one version share: its statistics, and the gauges of each load that is in service.

    When a load replaces another one, both are in service for a moment.
    """

    __slots__ = ("gauges", "ledger")

    def __init__(self) -> None:
        self.ledger = CallStatistics()
        self.gauges: dict[ModelMetrics, ModelGauges] = {}


class CallMetrics:
    """The metrics of prediction calls for one model version.

    Or, with an empty `model` and `version`, those of all calls that name an unknown version: then it is not `known`.
    """

    def __init__(self, families: Families, model: str, version: str) -> None:
        self._labels = (model, version)
        self.known = bool(model)
        self._requests = families[table.REQUESTS]
        self._refusals = families[table.REFUSALS]
        self._family = families[table.REQUEST_DURATION]
        self._ends: dict[tuple[str, CallOutcome], tuple[Count, Tally]] = {}

    def request_ended(self, dialect: str, outcome: CallOutcome, duration_s: float, trace_id: str | None = None) -> None:
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

    def request_unread(self, dialect: str, outcome: CallOutcome) -> None:
        """Count one call that was refused before it was read. It has no duration."""
        self._requests.add(*self._labels, dialect, outcome)

    def refused(self, reason: RefusalReason) -> None:
        """Count why a call was refused. `request_ended` or `request_unread` counts the call itself."""
        self._refusals.add(*self._labels, reason)


class ModelMetrics(CallMetrics):
    """All metrics of one model version. Labels are bound beforehand where binding costs more than counting."""

    def __init__(self, families: Families, model: str, version: str, dialects: Sequence[str], loads: Loads) -> None:
        super().__init__(families, model, version)
        self._families = families
        self._dialects = dialects
        self._loads = loads
        self.ledger = loads.ledger
        self._batches = families[table.BATCHES]
        self._batch_rows = families[table.BATCH_ROWS].labels(model, version)
        self._compute = families[table.BATCH_COMPUTE].labels(model, version)
        self._run = families[table.BATCH_RUN].labels(model, version)
        self._predicted = families[table.BATCH_PREDICTED].labels(model, version)
        self._predictions = families[table.BATCH_PREDICTIONS]
        self._padding = families[table.PADDING]
        self._cache_lookups = families[table.CACHE_LOOKUPS]
        self._restarts = families[table.WORKER_RESTARTS].labels(model, version)
        self._deaths = families[table.WORKER_DEATHS]
        self._row_audits = families[table.ROW_AUDITS]
        self._row_audit_seconds = families[table.ROW_AUDIT_SECONDS].labels(model, version)
        phases = [families[table.PHASES].labels(model, version, phase) for phase in Phase]
        self._decode, self._cache, self._queue, self._transport, self._engine, self._encode = phases
        self._slack = families[table.SLACK].labels(model, version)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show the counts that alerts use: Prometheus does not see the increase with which a new series begins."""
        for dialect in self._dialects:
            for outcome in CallOutcome:
                self._requests.labels(*self._labels, dialect, outcome)
            for reason in RefusalReason:
                self._refusals.labels(*self._labels, reason)
        for cause in Cause:
            self._deaths.labels(*self._labels, cause)
        for found in AuditOutcome:
            self._row_audits.labels(*self._labels, found)

    def answered(self, timings: Timings, decode_s: float, encode_s: float, *, cached: bool) -> None:
        """Count how long each phase of one answered call took. `cached` says whether the cache was asked."""
        self._decode.observe(decode_s)
        self._encode.observe(encode_s)
        if cached:
            self._cache.observe(timings.cache_s)
            if not timings.batch_rows:
                self.ledger.hit(timings.cache_s)
        if timings.batch_rows:
            self._queue.observe(timings.queue_s)
            self._transport.observe(max(0.0, timings.batch_s - timings.compute_s))
            self._engine.observe(timings.compute_s)

    def repeated(self, duration_s: float) -> None:
        """Count one answer that was taken from the cache without decoding the call."""
        self._cache.observe(duration_s)
        self.ledger.hit(duration_s)

    def promise_ended(self, slack_s: float) -> None:
        """Count how much of the promised time was left when a call was answered; 0 or less: it was late."""
        self._slack.observe(slack_s)

    def batch_ended(self, report: BatchReport) -> None:
        """Count one batch that ran."""
        self._batches.add(*self._labels, report.reason, report.outcome)
        self._batch_rows.observe(report.rows)
        self._compute.observe(report.compute_s)
        if report.outcome is not BatchOutcome.ANSWERED:
            return
        self._run.observe(report.run_s)
        self.ledger.batch(report.rows, max(0.0, report.run_s - report.compute_s), report.compute_s)
        if report.predicted_s:
            self._predicted.observe(report.predicted_s)
            within = report.run_s <= report.predicted_s
            self._predictions.add(*self._labels, RunTime.WITHIN if within else RunTime.BEYOND)

    def statistics(self) -> ModelStatistics:
        """The statistics of the version's calls so far, from the counts that a scrape shows."""
        ledger, ends = self.ledger, self._request_ends()
        answered = [end for outcome, end in ends if outcome in (CallOutcome.SUCCESS, CallOutcome.LATE)]
        unanswered = [end for outcome, end in ends if outcome not in (CallOutcome.SUCCESS, CallOutcome.LATE)]
        success, batches = _added(answered), ledger.batches()
        return ModelStatistics(
            inference_count=sum(size.rows * size.compute.count for size in batches),
            execution_count=sum(size.compute.count for size in batches),
            last_inference_ms=ledger.last_inference_ms(),
            success=success,
            fail=_added(unanswered),
            queue=Total(success.count, _total(self._queue).ns),
            transport=_total(self._transport),
            compute=_total(self._engine),
            encode=_total(self._encode),
            cache_hit=total(ledger.hits, ledger.hits_s),
            cache_miss=total(self._cache.count - ledger.hits, self._cache.sum - ledger.hits_s),
            batches=batches,
            row_audits={found: self._row_audits.labels(*self._labels, found).value for found in AuditOutcome},
        )

    def _request_ends(self) -> list[tuple[CallOutcome, Total]]:
        ends: list[tuple[CallOutcome, Total]] = []
        for dialect in self._dialects:
            for outcome in CallOutcome:
                # `known` makes no series: reading statistics must not add series to every later scrape.
                durations = self._family.known(*self._labels, dialect, outcome)
                count = self._requests.labels(*self._labels, dialect, outcome).value
                ends.append((outcome, total(count, 0.0 if durations is None else durations.sum)))
        return ends

    def padded(self, own: int, added: int) -> None:
        """Count the elements of one request's padded inputs: its own, and those that were added."""
        self._padding.add(*self._labels, Element.OWN, by=own)
        self._padding.add(*self._labels, Element.ADDED, by=added)

    def cache_lookups(self, tier: TierName) -> Callable[[float], None]:
        """The function that counts how long a lookup in a tier took, in seconds."""
        return self._cache_lookups.labels(*self._labels, tier).observe

    def row_audited(self, outcome: AuditOutcome, compute_s: float) -> None:
        """Count one row that was run once more, alone, and how long the engine ran for it."""
        self._row_audits.add(*self._labels, outcome)
        self._row_audit_seconds.inc(compute_s)

    def worker_restarted(self) -> None:
        """Count one replaced worker process."""
        self._restarts.inc()

    def worker_died(self, death: Death) -> None:
        """Count one lost worker process, by cause of death."""
        self._deaths.add(*self._labels, death.cause)

    def watch(self, gauges: ModelGauges) -> None:
        """Let scrapes read the version's state from now on."""
        self._loads.gauges[self] = gauges
        self._show()

    def forget(self) -> None:
        """Take the version's state out of the scrape; what was counted stays."""
        self._loads.gauges.pop(self, None)
        self._show()

    def _show(self) -> None:
        """Show the state of the latest load that is in service, or none."""
        families, labels = self._families, self._labels
        for spec in STATE:
            families[spec].remove(*labels)
        if not self._loads.gauges:
            return
        gauges = list(self._loads.gauges.values())[-1]
        families[table.LOAD].labels(*labels).set(gauges.load_s)
        families[table.QUEUE_ROWS].labels(*labels).set_function(gauges.queue_rows)
        families[table.QUEUE_BYTES].labels(*labels).set_function(gauges.queue_bytes)
        families[table.IN_FLIGHT].labels(*labels).set_function(gauges.batches_in_flight)
        families[table.WORKERS].labels(*labels).set_function(gauges.workers_alive)
        families[table.WORKERS_BYTES].labels(*labels).set_function(gauges.workers_bytes)
        families[table.ROWS_MIXED].labels(*labels).set_function(gauges.rows_mixed)
        if gauges.objective_s is not None:
            families[table.OBJECTIVE].labels(*labels).set(gauges.objective_s)


def _total(tally: Tally) -> Total:
    return total(tally.count, tally.sum)


def _added(totals: Sequence[Total]) -> Total:
    return Total(sum(each.count for each in totals), sum(each.ns for each in totals))
