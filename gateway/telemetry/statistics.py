"""What became of a model version's calls, in the terms of Triton's statistics extension. Free of any protocol.

The figures are read from the tallies that the metrics are made of, so that both always agree.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Total:
    """How often something happened, and how long all of it took, in nanoseconds."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The batches of one size that were answered. `transport` is what they took beside the engine's run."""

    rows: int
    transport: Total
    compute: Total


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What became of the calls of one model version since the gateway was started.

    `success` and `fail` are all calls that ended, with the time from the complete request to the encoded answer; calls
    that were turned away unread took no time. Of the successful calls for which the model ran, `transport`, `compute`
    and `encode` say where the time went; `transport` is a batch's way to the engine and back, stacking included.
    `queue` counts all successful calls, as Triton does: those that the cache answered waited for no time, and tools
    that look for calls which come through find them. `cache_hit` are calls whose rows were all known, `cache_miss` the
    others for which the cache was asked, with the time that the cache took.

    `inference_count` is the rows that the engine computed, `execution_count` the batches in which it did.
    `last_inference_ms` is when a call was last answered, in milliseconds since 1970, or 0. `row_audits` counts the rows
    of batches that were run once more, alone, by what came of it.
    """

    inference_count: int
    execution_count: int
    last_inference_ms: int
    success: Total
    fail: Total
    queue: Total
    transport: Total
    compute: Total
    encode: Total
    cache_hit: Total
    cache_miss: Total
    batches: tuple[BatchSize, ...]
    row_audits: Mapping[str, int]


class CallStatistics:
    """What the statistics need of one version and no metric has. Lasts from load to load, as the metrics do.

    `sizes` has, for each number of rows, how many batches were answered, and their transport and compute in seconds; a
    version has as many sizes as its largest batch has rows.
    """

    __slots__ = ("hits", "hits_s", "last_s", "sizes")

    def __init__(self) -> None:
        self.hits = 0
        self.hits_s = 0.0
        self.last_s = 0.0
        self.sizes: dict[int, list[float]] = {}

    def hit(self, cache_s: float) -> None:
        """Count a call whose rows were all known."""
        self.hits += 1
        self.hits_s += cache_s

    def batch(self, rows: int, transport_s: float, compute_s: float) -> None:
        """Count a batch that was answered."""
        size = self.sizes.get(rows)
        if size is None:
            size = self.sizes[rows] = [0, 0.0, 0.0]
        size[0] += 1
        size[1] += transport_s
        size[2] += compute_s

    def batches(self) -> tuple[BatchSize, ...]:
        """What was counted of batches, by size."""
        return tuple(
            [
                BatchSize(rows, total(int(count), transport_s), total(int(count), compute_s))
                for rows, (count, transport_s, compute_s) in sorted(self.sizes.items())
            ]
        )

    def last_inference_ms(self) -> int:
        """When a call was last answered, by the clock on the wall."""
        return round((time.time() - (time.monotonic() - self.last_s)) * 1e3) if self.last_s else 0


def total(count: int, seconds: float) -> Total:
    """So many in so many seconds."""
    return Total(count, round(seconds * 1e9))
