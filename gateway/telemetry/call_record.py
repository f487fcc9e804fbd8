"""One prediction call, as those see it who count it, log it and trace it."""

from __future__ import annotations

import msgspec

from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.model_metrics import CallMetrics
from sluice.gateway.telemetry.tracing.traces import CallTrace
from sluice.inference.types import CacheUse, Timings


class CallRecord(msgspec.Struct, eq=False, gc=False):
    """What is known of a call, filled in on its way. It holds no tensor, so keeping it costs little.

    `model` and `version` are the caller's words until the call is answered. `metrics` are those of the version, once it
    is known which. Times are monotonic; zero where the call never came so far. It may have come at `came_s`, before it
    was read. `trace_id` is there where the call belongs to a trace that somebody records, and `trace` where that is us.
    """

    dialect: str
    model: str
    version: int | None
    request_id: bytes
    metrics: CallMetrics
    started_s: float
    trace_id: str | None = None
    trace: CallTrace | None = None
    decoded_s: float = 0.0
    walked_s: float = 0.0
    ended_s: float = 0.0
    status: int = 0
    outcome: CallOutcome = CallOutcome.SUCCESS
    timings: Timings | None = None
    cached: CacheUse | None = None
    came_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """From the complete request to the end."""
        return self.ended_s - self.started_s
