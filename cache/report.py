"""The cache's figures: plain counts, kept where things happen and read on request."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec


class TierName(StrEnum):
    """Where rows are kept, in the order in which they are looked for."""

    MEMORY = "memory"
    REDIS = "redis"


class Owner(msgspec.Struct, frozen=True):
    """The model version that entries belong to and are counted for."""

    model: str
    version: int


class TierCounts(msgspec.Struct, eq=False):
    """The rows of one model version in one tier, counted by outcome. All numbers only rise.

    A row that was looked up is a hit or a miss. Of the misses, `errors` were the tier's: no answer in time, or a
    value that failed its checks. `bypassed` rows were not looked up, since the tier did not pay.
    `dropped` rows found no room in the queue of writes, or were too large. `evicted` rows had to make room.
    `observe` is told the duration of each lookup, in seconds.
    """

    observe: Callable[[float], None]
    hits: int = 0
    misses: int = 0
    errors: int = 0
    stores: int = 0
    dropped: int = 0
    evicted: int = 0
    bypassed: int = 0

    @property
    def lookups(self) -> int:
        """Rows that were looked up."""
        return self.hits + self.misses


class TierState(msgspec.Struct, frozen=True):
    """One tier of one model version at one moment. `entries` and `size_bytes` are `None` where nobody counts them.

    `pays` is false while the tier is bypassed. `cost_s` is what a lookup takes per row, `saves_s` what it saves: hit
    ratio times compute per row; `None` until enough is known.
    """

    tier: TierName
    counts: TierCounts
    entries: int | None
    size_bytes: int | None
    pays: bool
    cost_s: float | None
    saves_s: float | None


class ModelState(msgspec.Struct, frozen=True):
    """The cache of one model version at one moment. `followers` are rows that waited for another request's."""

    owner: Owner
    scope: str
    followers: int
    tiers: tuple[TierState, ...]


class RedisState(msgspec.Struct, frozen=True):
    """The connection to Redis at one moment.

    `reads` and `writes` are `closed` (in use), `open` (left alone after failures) or `half_open` (being tried).
    `last_error` is plain words without the address, `None` if nothing has failed yet. `failures` counts by kind.
    Of a cluster, `reads` and `writes` are those of the node that is worst off; `nodes` and `nodes_left_alone` count
    those that hold a part of the cache. Both are `None` where it is no cluster.
    """

    reads: str
    writes: str
    last_error: str | None
    failures: dict[str, int]
    queued_writes: int
    queued_bytes: int
    nodes: int | None = None
    nodes_left_alone: int | None = None


class CacheState(msgspec.Struct, frozen=True):
    """The whole cache at one moment. `redis` is `None` where none is configured."""

    entries: int
    size_bytes: int
    max_bytes: int
    models: tuple[ModelState, ...]
    redis: RedisState | None
