"""Log lines of prediction calls: at most one for each call."""

from __future__ import annotations

from typing import Any

from sluice.gateway.telemetry.call_record import CallRecord
from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.sampler import Sampler
from sluice.gateway.telemetry.tracebacks import unquoted
from sluice.inference.errors import SluiceError


class CallLog:
    """Logs `successes_per_s` successful prediction calls, `refusals_per_s` of each other outcome, and every failure.

    A call that took `slow_s` or longer to answer is always logged.
    """

    def __init__(self, successes_per_s: int, refusals_per_s: int, *, slow_s: float) -> None:
        self._slow_s = slow_s
        self._samplers: dict[CallOutcome, Sampler] = {CallOutcome.SUCCESS: Sampler(successes_per_s)}
        for outcome in CallOutcome:
            if outcome not in {CallOutcome.SUCCESS, CallOutcome.FAILED}:
                self._samplers[outcome] = Sampler(refusals_per_s)

    def answered(self, record: CallRecord, duration_s: float) -> None:
        """Log a call that was answered, unless there were too many in this second."""
        slow = duration_s >= self._slow_s
        kept_back = 0 if slow else self._samplers[record.outcome].admit(record.ended_s)
        if kept_back is None:
            return
        facts = _facts(record, kept_back) | _times(record)
        if slow:
            facts["slow"] = True
        tell = log.warning if slow or record.outcome is CallOutcome.LATE else log.info
        tell("prediction", **facts)

    def ended(self, record: CallRecord, error: Exception | None) -> None:
        """Log a call that was not answered, unless there were too many in this second. `None`: its client has gone."""
        sampler = self._samplers.get(record.outcome)
        kept_back = 0 if sampler is None else sampler.admit(record.ended_s)
        if kept_back is None:
            return
        facts = _facts(record, kept_back)
        if record.outcome is CallOutcome.FAILED:
            ours = None if isinstance(error, SluiceError) else error
            log.error("prediction", error=str(error) if ours is None else unquoted(str(error)), exc_info=ours, **facts)
        else:
            log.warning("prediction", error=_told(record, error), **facts)


def _told(record: CallRecord, error: Exception | None) -> str:
    """The error, without what it quotes of an invalid request: values of callers must not be in the log."""
    if error is None:
        return "the client has gone"
    return unquoted(str(error)) if record.outcome is CallOutcome.INVALID else str(error)


def _facts(record: CallRecord, kept_back: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": record.request_id.decode(),
        "model": record.model[:128],
        "version": record.version,
        "dialect": record.dialect,
        "status": record.status,
        "outcome": record.outcome.value,
        "duration_ms": _milliseconds(record.duration_s),
    }
    if record.trace_id is not None:
        facts["trace_id"] = record.trace_id
    if kept_back:
        facts["lines_kept_back"] = kept_back
    return facts


def _times(record: CallRecord) -> dict[str, Any]:
    timings = record.timings
    if timings is None:
        return {}
    times: dict[str, Any] = {
        "queue_ms": _milliseconds(timings.queue_s),
        "batch_ms": _milliseconds(timings.batch_s),
        "compute_ms": _milliseconds(timings.compute_s),
        "batch_rows": timings.batch_rows,
    }
    if record.cached is not None:
        times |= {
            "cache_ms": _milliseconds(timings.cache_s),
            "cache_hits": record.cached.hits,
            "cache_rows": record.cached.rows,
        }
    return times


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
