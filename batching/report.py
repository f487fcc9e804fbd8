"""A batcher's reports and statistics, as frozen values."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sluice.batching.policy import Reason
from sluice.batching.queue import QueueStatistics
from sluice.inference.types import Trace


class BatchOutcome(StrEnum):
    """How a batch ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    """The model raised an error."""
    DIED = "died"
    """Its worker process ended while it ran."""
    ERROR = "error"
    """The workers raised something else."""


class BatchReport(msgspec.Struct, frozen=True):
    """One batch that ran, for metrics.

    `queue_s` is how long its first job had waited when the batch was dispatched, `wall_s` the time from then to its
    end. `run_s` is how long it kept its worker, and `compute_s` the engine's share of that; both are zero unless it was
    answered. `predicted_s` is the p95 of `run_s` as it was predicted; zero where nothing was known yet.

    `traced` has the traces of its jobs, each with the monotonic time at which the job came to the queue; `ended_s` is
    when the batch ended and `began_s` when the engine began, zero if it never did, monotonic too.
    """

    rows: int
    jobs: int
    reason: Reason
    outcome: BatchOutcome
    queue_s: float
    compute_s: float
    wall_s: float
    run_s: float
    predicted_s: float
    began_s: float = 0.0
    ended_s: float = 0.0
    traced: tuple[tuple[Trace, float], ...] = ()


class BatcherStatistics(msgspec.Struct, frozen=True):
    """A batcher at one moment: what waits, what waits to be run again, what is out, and how fast rows drain."""

    queue: QueueStatistics
    again_batches: int
    running_batches: int
    running_rows: int
    rows_per_s: float
