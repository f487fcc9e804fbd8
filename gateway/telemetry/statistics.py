"""The statistics of a model version's calls, as Triton's statistics extension defines them, for any protocol.

They are read from the counts that the metrics show, so that both always agree.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Total:
    """How often something happened, and how long it took altogether, in nanoseconds."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The answered batches of one size. `transport` is the time that they took without the engine's run."""

    rows: int
    transport: Total
    compute: Total


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """The statistics of the calls of one model version since the gateway was started.

    `success` and `fail` are all calls that ended, with the time from the complete request to the encoded answer; calls
    that were refused unread took no time. `transport`, `compute` and `encode` say how long these phases took in
    successful calls for which the model ran; `transport` is the way of a batch to the engine and back, stacking
    included. `queue` counts all successful calls, as Triton does, so that tools which look there for successful calls
    find them; calls that the cache answered waited for no time. `cache_hit` are the calls whose rows were all in the
    cache, `cache_miss` the other calls for which the cache was asked, with the time that the cache took.

    `inference_count` is how many rows the engine computed, `execution_count` in how many batches. `last_inference_ms`
    is when a call was last answered, in milliseconds since 1970, or 0. `row_audits` counts the rows that were run once
    more, alone, by outcome.
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
    """The counts of one version that the statistics need and no metric has. They outlast a reload, as metrics do.

    `sizes` has, for each number of rows, how many batches were answered, and their transport and compute in seconds.
    There are at most as many sizes as the largest batch has rows.
    """

    __slots__ = ("hits", "hits_s", "last_s", "sizes")

    def __init__(self) -> None:
        self.hits = 0
        self.hits_s = 0.0
        self.last_s = 0.0
        self.sizes: dict[int, list[float]] = {}

    def hit(self, cache_s: float) -> None:
        """Count a call whose rows were all in the cache."""
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
        """The answered batches, by size."""
        return tuple(
            [
                BatchSize(rows, total(int(count), transport_s), total(int(count), compute_s))
                for rows, (count, transport_s, compute_s) in sorted(self.sizes.items())
            ]
        )

    def last_inference_ms(self) -> int:
        """When a call was last answered, in milliseconds since 1970, or 0."""
        return round((time.time() - (time.monotonic() - self.last_s)) * 1e3) if self.last_s else 0


def total(count: int, seconds: float) -> Total:
    """The total of so many events that took so many seconds."""
    return Total(count, round(seconds * 1e9))
