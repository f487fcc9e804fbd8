"""The Prometheus metrics, all of them, and the only place that writes them.

Label values come from the model repository and from fixed tables, never from a caller, so their number is bounded:
a call for an unknown model counts under the empty model name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client.exposition import choose_encoder

from sluice.batching.report import BatchOutcome, BatchReport
from sluice.cache.report import TierName
from sluice.gateway.serving.audit.auditor import Look
from sluice.gateway.serving.audit.examine import LookOutcome
from sluice.gateway.telemetry.exposition import Exposition
from sluice.gateway.telemetry.families import Families
from sluice.gateway.telemetry.labels import CallOutcome, Element, Phase, RefusalReason, RunTime
from sluice.gateway.telemetry.statistics import CallStatistics, ModelStatistics, Total, total
from sluice.gateway.telemetry.tally import Count, Tally
from sluice.inference.types import Cause, Death, Timings

DOORS = ("http", "grpc", "management")
"""The doors that there may be."""


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """Where a scrape reads the current state of one model version.

    `objective_s` is the latency that is promised for it, `None` if none is, and `load_s` how long it took to load.
    """

    queue_rows: Callable[[], float]
    queue_bytes: Callable[[], float]
    batches_in_flight: Callable[[], float]
    workers_alive: Callable[[], float]
    workers_bytes: Callable[[], float]
    objective_s: float | None = None
    load_s: float = 0.0
    rows_mixed: Callable[[], float] = lambda: 0.0


class CallMetrics:
    """The metrics of prediction calls for one model version.

    Or for calls that name no version that is `known`: their labels are empty.
    """

    def __init__(self, metrics: Families, model: str, version: str) -> None:
        self._labels = (model, version)
        self.known = bool(model)
        self._requests = metrics.requests
        self._refusals = metrics.refusals
        self._family = metrics.request_duration
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
        """Count one call that was turned away before it was read; it has no duration."""
        self._requests.add(*self._labels, dialect, outcome)

    def refused(self, reason: RefusalReason) -> None:
        """Count why a call was refused; that it ended is counted apart."""
        self._refusals.add(*self._labels, reason)


class ModelMetrics(CallMetrics):
    """All metrics of one model version, with its labels already bound where that costs more than counting."""

    def __init__(self, metrics: Families, model: str, version: str) -> None:
        super().__init__(metrics, model, version)
        self._metrics = metrics
        self.ledger = metrics.ledgers.setdefault(self._labels, CallStatistics())
        self._watched = metrics.watched.setdefault(self._labels, [])
        self._batches = metrics.batches
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._compute = metrics.batch_compute.labels(model, version)
        self._run = metrics.batch_run.labels(model, version)
        self._predicted = metrics.batch_predicted.labels(model, version)
        self._predictions = metrics.batch_predictions
        self._padding = metrics.padding
        self._cache_lookups = metrics.cache_lookups
        self._restarts = metrics.worker_restarts.labels(model, version)
        self._deaths = metrics.worker_deaths
        self._row_audits = metrics.row_audits
        self._row_audit_seconds = metrics.row_audit_seconds.labels(model, version)
        phases = [metrics.phases.labels(model, version, phase) for phase in Phase]
        self._decode, self._cache, self._queue, self._transport, self._engine, self._encode = phases
        self._slack = metrics.slack.labels(model, version)
        for dialect in metrics.dialects:
            for outcome in CallOutcome:
                self._requests.labels(*self._labels, dialect, outcome)
            for reason in RefusalReason:
                self._refusals.labels(*self._labels, reason)
        for cause in Cause:
            self._deaths.labels(*self._labels, cause)
        for found in LookOutcome:
            self._row_audits.labels(*self._labels, found)

    def answered(self, timings: Timings, decode_s: float, encode_s: float, *, cached: bool) -> None:
        """Count where the time of one answer went. `cached`: the cache was asked."""
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
        """Count how much of an answer's promised time was left; none or less, and it was late."""
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
        """What became of the calls so far, from the same counts as a scrape."""
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
            row_audits={found: self._row_audits.labels(*self._labels, found).value for found in LookOutcome},
        )

    def _request_ends(self) -> list[tuple[CallOutcome, Total]]:
        ends: list[tuple[CallOutcome, Total]] = []
        for dialect in self._metrics.dialects:
            for outcome in CallOutcome:
                # Only asked for, and not made: a page must not add series to every scrape from then on.
                durations = self._family.known(*self._labels, dialect, outcome)
                count = self._requests.labels(*self._labels, dialect, outcome).value
                ends.append((outcome, total(count, 0.0 if durations is None else durations.sum)))
        return ends

    def padded(self, own: int, added: int) -> None:
        """Count the elements of one request's padded inputs: its own, and those added."""
        self._padding.add(*self._labels, Element.OWN, by=own)
        self._padding.add(*self._labels, Element.ADDED, by=added)

    def cache_lookups(self, tier: TierName) -> Callable[[float], None]:
        """Whom to tell how long each lookup in a tier took, in seconds."""
        return self._cache_lookups.labels(*self._labels, tier).observe

    def looked_again(self, look: Look) -> None:
        """Count one row that was run once more, alone."""
        self._row_audits.add(*self._labels, look.finding.outcome)
        self._row_audit_seconds.inc(look.compute_s)

    def worker_restarted(self) -> None:
        """Count one replaced worker process."""
        self._restarts.inc()

    def worker_died(self, death: Death) -> None:
        """Count one lost worker process by what it died of."""
        self._deaths.add(*self._labels, death.cause)

    def watch(self, gauges: ModelGauges) -> None:
        """Let scrapes read the version's state from now on."""
        self._watched.append((self, gauges))
        self._show()

    def forget(self) -> None:
        """Take the version's state out of the scrape; what was counted stays."""
        self._watched[:] = [watched for watched in self._watched if watched[0] is not self]
        self._show()

    def _show(self) -> None:
        """Of several versions of one number, as there are for a moment when one is replaced, show the last."""
        metrics, labels = self._metrics, self._labels
        for gauge in metrics.states:
            gauge.remove(*labels)
        if not self._watched:
            return
        gauges = self._watched[-1][1]
        metrics.load.labels(*labels).set(gauges.load_s)
        metrics.queue_rows.labels(*labels).set_function(gauges.queue_rows)
        metrics.queue_bytes.labels(*labels).set_function(gauges.queue_bytes)
        metrics.in_flight.labels(*labels).set_function(gauges.batches_in_flight)
        metrics.workers.labels(*labels).set_function(gauges.workers_alive)
        metrics.workers_bytes.labels(*labels).set_function(gauges.workers_bytes)
        metrics.rows_mixed.labels(*labels).set_function(gauges.rows_mixed)
        if gauges.objective_s is not None:
            metrics.objective.labels(*labels).set(gauges.objective_s)


def _total(tally: Tally) -> Total:
    return total(tally.count, tally.sum)


def _added(totals: Sequence[Total]) -> Total:
    return Total(sum(each.count for each in totals), sum(each.ns for each in totals))


@dataclass(frozen=True, slots=True)
class TracedCalls:
    """How many traced calls' spans were handed to the collector, not taken by it, or dropped to make no caller wait."""

    exported: Count
    failed: Count
    dropped: Count


class Metrics(Families):
    """All metrics of the process.

    Of each model version that is known, the counts that alerts are about begin at zero, for each of `dialects`: of a
    series that begins at one, Prometheus does not see the first failure.
    """

    def __init__(self, sluice_version: str, engine_version: str = "", dialects: Sequence[str] = ()) -> None:
        super().__init__(sluice_version, engine_version, dialects)
        self._lag = self.loop_lag.labels()
        self.unknown_model = CallMetrics(self, "", "")
        self.pages = Exposition(self.registry)
        for door in DOORS:
            self.doors_reopened.labels(door)

    def of_model(self, model: str, version: int) -> ModelMetrics:
        """The metrics of one version that the repository holds."""
        return ModelMetrics(self, model, str(version))

    def watch_broken(self, count: Callable[[], float]) -> None:
        """Read from here how many models and versions cannot be served."""
        self.broken.set_function(count)

    def door_reopened(self, door: str) -> None:
        """Count a door that was shut and is open again."""
        self.doors_reopened.labels(door).inc()

    def traced_calls(self) -> TracedCalls:
        """What to count traced calls with; from now on a scrape shows it."""
        return TracedCalls(*[self.traced.labels(outcome) for outcome in ("exported", "failed", "dropped")])

    def tick(self, lag_s: float) -> None:
        """Count one look at the event loop, which came to it `lag_s` late, and sort what was observed since the last.

        To be called many times a second: what calls observe is kept one by one until then.
        """
        self._lag.observe(lag_s)
        for family in self.histograms:
            family.fold()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type, made at once: a page for callers is `pages.page`."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
