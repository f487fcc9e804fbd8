"""What is recorded of one prediction call, for metrics, log and traces."""

from __future__ import annotations

import msgspec

from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.model_metrics import CallMetrics
from sluice.gateway.telemetry.traces import CallTrace
from sluice.inference.types import CacheUse, Timings


class CallRecord(msgspec.Struct, eq=False, gc=False):
    """The record of one call, filled in while it is served. It holds no tensors, so that it may be kept.

    `model` and `version` are what the caller named, until the call is answered. `metrics` are those of the version,
    once it is known. Times are monotonic, and 0 for phases that the call did not reach. `came_s` is when its last bytes
    may have come, where that is known. `trace_id` is set if the caller or the gateway records a trace of the call, and
    `trace` if the gateway does.
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
