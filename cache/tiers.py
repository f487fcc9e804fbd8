"""The tiers of one model version: looking rows up, storing them, and counting both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TypeAlias, TypeVar
from zlib import crc32

import msgspec

from sluice.cache.economy import SAMPLED, Economy, ModelCost
from sluice.cache.entry import CacheEntry, entry_of
from sluice.cache.joining import Limits
from sluice.cache.keys import PEEKED_BYTES, CacheScope, peek
from sluice.cache.memory import MemoryTier
from sluice.cache.remote import values
from sluice.cache.remote.contract import LookupResult, RemoteTier
from sluice.cache.report import Owner, TierCounts, TierName, TierState
from sluice.cache.turns import STEP_BYTES, STEP_ROWS
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, Query, Signature, TensorSpec

SPACE_DIGITS = 16
"""Keys of one digest stand together in Redis, under its first so many hexadecimal digits."""

REDIS_SHARE = 0.25
"""A lookup in Redis takes at most this part of the time that a request has left, and so does claiming rows."""

TRIP_KEYS = 512
CLAIMED_KEYS = 128
"""The most keys that one request looks up, or claims, in one round trip."""


class CachedModel(msgspec.Struct, frozen=True):
    """A model version as the cache needs to know it.

    `digest` names its files, and `engine` whatever else its answers may depend on. `batch_s` is what a batch costs
    beside the engine, in seconds, and `objective_s` the latency that is promised, if one is. With `adaptive`, tiers
    that do not pay are bypassed. `observe` gives, for a tier, the function to call with the seconds of each lookup.
    An answer that is put together here has at most `max_answer_bytes`. `on_forget` is called when answers are deleted.
    """

    owner: Owner
    digest: str
    engine: str
    signature: Signature
    scope: CacheScope
    ttl_s: float
    adaptive: bool
    batch_s: float
    objective_s: float | None
    observe: Callable[[TierName], Callable[[float], None]]
    max_answer_bytes: int = 64 << 20
    on_forget: Callable[[], None] = lambda: None


Landing: TypeAlias = Callable[[Mapping[bytes, CacheEntry]], None]
"""Takes entries that were found; none perhaps."""


class Use(msgspec.Struct, frozen=True):
    """Which tiers one query uses."""

    memory: bool
    redis: bool


NOWHERE = Use(memory=False, redis=False)


class Tiers:
    """Memory, then Redis, either of which may not be there. `weight` is how many rows one key stands for.

    All methods but `fetch` and its like are called from the event loop's thread and return at once. Those take many
    keys in steps, and raise `DeadlineExceeded` between two of them.
    """

    def __init__(
        self, subject: CachedModel, memory: MemoryTier | None, redis: RemoteTier | None, clock: Callable[[], float]
    ) -> None:
        self._subject = subject
        self._memory = memory
        self._redis = redis
        self._clock = clock
        self._space = subject.digest[:SPACE_DIGITS]
        self._specs = lru_cache(maxsize=64)(self._specs_of)
        self.model = ModelCost(subject.batch_s)
        self.memory_pays = Economy(self.model, adaptive=subject.adaptive)
        self.redis_pays = Economy(self.model, adaptive=subject.adaptive)
        self.memory_counts = TierCounts(subject.observe(TierName.MEMORY))
        self.redis_counts = TierCounts(subject.observe(TierName.REDIS))
        self._small = _has_one_small_input(subject.signature)
        self.there = Use(memory is not None, redis is not None)
        """The tiers that there are, whether they pay or not."""
        self.followers = 0
        """Rows that were taken from another query that computed them."""
        self.epoch = 0
        """Raised when the model's entries are deleted: what was begun before is not stored."""

    @property
    def space(self) -> str:
        """Where this version's keys stand in Redis."""
        return self._space

    @property
    def by_row(self) -> bool:
        """Whether a key stands for one row, and not for a whole request."""
        return self._subject.scope == "row"

    def in_use(self, query: Query) -> Use:
        """The tiers that pay; for the sample, all of them. Counts the rows that pass a tier by."""
        # A tier that is not there is never judged, and pays for ever.
        memory, redis, there = self.memory_pays.pays, self.redis_pays.pays, self.there
        if memory and redis:
            return there
        glance = crc32(query.inputs[0].tobytes()) if self._small and query.rows == 1 else peek(query.inputs)
        if glance % SAMPLED == 0:
            return there
        if not memory:
            self.memory_counts.bypassed += query.rows
        if not redis:
            self.redis_counts.bypassed += query.rows
        memory, redis = memory and there.memory, redis and there.redis
        return Use(memory, redis) if memory or redis else NOWHERE

    def recall(self, keys: Sequence[bytes], now_s: float) -> dict[bytes, Arrays]:
        """What memory holds of these keys."""
        if self._memory is None:
            return {}
        get = self._memory.get
        return {key: entry.outputs for key in keys if (entry := get(key, now_s)) is not None}

    def recall_one(self, key: bytes, now_s: float) -> CacheEntry | None:
        """What memory holds of one key."""
        return None if self._memory is None else self._memory.get(key, now_s)

    def recalled(self, rows: int, hits: int, cost_s: float) -> None:
        """Count a lookup in memory."""
        counts = self.memory_counts
        counts.hits += hits
        counts.misses += rows - hits
        counts.observe(cost_s)
        self.memory_pays.looked_up(rows, hits, cost_s)

    @property
    def leasing(self) -> bool:
        """Whether gateways agree on who computes what."""
        return self._redis is not None and self._redis.leasing

    @property
    def fetchable(self) -> bool:
        """Whether Redis is there and answers, as far as is known."""
        return self._redis is not None and self._redis.readable

    async def fetch_one(self, query: Query, key: bytes) -> CacheEntry | None:
        """What Redis holds of one key, as `fetch` does."""
        if self._redis is None or not self.fetchable:
            return None
        epoch = self.epoch
        looked = await self._look(self._redis, (key,), self._share_s(query))
        if looked is None:
            self._looked_up(1, 0, None)
            return None
        entry = self._decoded_one(query, key, looked.values[0], 1, epoch)
        self._looked_up(1, 0 if entry is None else 1, looked)
        return entry

    async def fetch(self, query: Query, keys: Sequence[bytes], weight: int, limits: Limits, land: Landing) -> None:
        """Land what Redis holds of these keys, which goes to memory too. Ends early where it does not answer in time.

        Raises what `land` raises.
        """
        redis, epoch = self._redis, self.epoch
        ends_s = self._clock() + self._share_s(query)
        for start in range(0, len(keys), TRIP_KEYS):
            if start:
                await limits.turn()
            left_s = ends_s - self._clock()
            if redis is None or not self.fetchable or (start and left_s <= 0):
                return
            part = keys[start : start + TRIP_KEYS]
            looked = await self._look(redis, part, left_s)
            if looked is None:
                self._looked_up(len(part) * weight, 0, None)
                return
            found = dict(zip(part, looked.values, strict=True))
            hits = await self._decoded(query, found, weight, epoch, limits, land)
            self._looked_up(len(part) * weight, hits * weight, looked)

    async def _look(self, redis: RemoteTier, keys: Sequence[bytes], left_s: float) -> LookupResult | None:
        """The values of as many keys as fit a round trip; `None` where nobody answered in time."""
        started_s = self._clock()
        if left_s >= redis.longest_lookup_s:
            looked = await redis.lookup(self._space, keys)
        else:
            looked = await _within(left_s, redis.lookup(self._space, keys))
        self.redis_counts.observe(self._clock() - started_s)
        return looked

    def _looked_up(self, rows: int, hits: int, looked: LookupResult | None) -> None:
        counts = self.redis_counts
        counts.hits += hits
        counts.misses += rows - hits
        if looked is None:
            counts.errors += rows
        else:
            self.redis_pays.looked_up(rows, hits, looked.cost_s)

    def _share_s(self, query: Query) -> float:
        return (query.deadline_s - self._clock()) * REDIS_SHARE

    async def claim(self, keys: Sequence[bytes], limits: Limits) -> tuple[list[bytes], list[bytes]]:
        """The keys that this process is to compute, and those that another one is computing already."""
        redis = self._redis
        mine: list[bytes] = []
        others: list[bytes] = []
        ends_s = self._clock() + (limits.deadline_s - self._clock()) * REDIS_SHARE
        try:
            for start in range(0, len(keys), CLAIMED_KEYS):
                if start:
                    await limits.turn()
                part = keys[start : start + CLAIMED_KEYS]
                if redis is None or not redis.leasing or not redis.readable or self._clock() >= ends_s:
                    mine += keys[start:]
                    break
                for key, own in zip(part, await redis.claim(self._space, part), strict=True):
                    (mine if own else others).append(key)
        except BaseException:
            self.release(mine)
            raise
        return mine, others

    async def awaited(self, query: Query, keys: Sequence[bytes], weight: int, limits: Limits, land: Landing) -> None:
        """Land what others have computed of these keys, once it is there or their leases are over."""
        redis, epoch = self._redis, self.epoch
        for start in range(0, len(keys), CLAIMED_KEYS):
            if start:
                await limits.turn()
            if redis is None:
                return
            part = keys[start : start + CLAIMED_KEYS]
            found = await _within(query.deadline_s - self._clock(), redis.awaited(self._space, part))
            if found is not None:
                await self._decoded(query, dict(zip(part, found, strict=True)), weight, epoch, limits, land)

    def followed(self, rows: int) -> None:
        """Count rows that another request has computed: looking them up has paid."""
        self.followers += rows
        self.memory_pays.saved(rows)

    def release(self, keys: Sequence[bytes]) -> None:
        """Let others compute these keys, which this process has claimed and did not answer."""
        if self._redis is not None and self._redis.leasing:
            self._redis.release(self._space, keys)

    def store(self, key: bytes, outputs: Arrays, use: Use, weight: int) -> CacheEntry:
        """Keep an answer in memory. It is for `send` to keep it in Redis."""
        now_s = self._clock()
        entry = entry_of(outputs, self._subject.owner, now_s + self._subject.ttl_s)
        if use.memory and self._memory is not None and self._memory.put(key, entry, now_s):
            self.memory_counts.stores += weight
        return entry

    def send(self, query: Query, entries: Mapping[bytes, CacheEntry]) -> None:
        """Keep answers in Redis too, a little later: no request waits for that."""
        if self._redis is None:
            return
        started_s = self._clock()
        datatypes = [spec.datatype for spec in self._specs(query.outputs)]
        dropped: list[bytes] = []
        for key, entry in entries.items():
            value = values.encode(entry.outputs, datatypes, key)
            if not self._redis.store(self._space, key, value, self._subject.ttl_s, self.redis_counts):
                dropped.append(key)
        if dropped:
            self.release(dropped)  # others must not wait for an answer that will never come
        self.redis_pays.spent(self._clock() - started_s)

    def states(self) -> tuple[TierState, ...]:
        """What stands now, for each tier that there is."""
        states = []
        if self._memory is not None:
            entries, size_bytes = self._memory.held(self._subject.owner)
            states.append(_state(TierName.MEMORY, self.memory_counts, self.memory_pays, entries, size_bytes))
        if self._redis is not None:
            states.append(_state(TierName.REDIS, self.redis_counts, self.redis_pays, None, None))
        return tuple(states)

    async def _decoded(
        self, query: Query, found: Mapping[bytes, bytes | None], weight: int, epoch: int, limits: Limits, land: Landing
    ) -> int:
        """Land those of these values that pass their checks, in steps. Returns how many."""
        entries: dict[bytes, CacheEntry] = {}
        landed = rows = size_bytes = 0
        for key, value in found.items():
            if value is None:
                continue
            if rows * len(query.outputs) >= STEP_ROWS or size_bytes >= STEP_BYTES:
                land(entries)
                landed += len(entries)
                entries, rows, size_bytes = {}, 0, 0
                await limits.turn()
            rows += 1
            size_bytes += len(value)
            entry = self._decoded_one(query, key, value, weight, epoch)
            if entry is not None:
                entries[key] = entry
        land(entries)
        return landed + len(entries)

    def _decoded_one(self, query: Query, key: bytes, value: bytes | None, weight: int, epoch: int) -> CacheEntry | None:
        """The entry in a value, if it is a good one. It stays in memory, unless all was forgotten since `epoch`."""
        if value is None:
            return None
        outputs = values.decode(value, key, self._specs(query.outputs))
        if outputs is None or (self.by_row and any([_rows(array) != 1 for array in outputs])):
            self.redis_counts.errors += weight
            return None
        return self.store(key, outputs, self.there if self.epoch == epoch else NOWHERE, weight)

    def _specs_of(self, outputs: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        specs = {spec.name: spec for spec in self._subject.signature.outputs}
        return tuple([specs[name] for name in outputs])


def _has_one_small_input(signature: Signature) -> bool:
    """Whether a row is so little memory that all of it is looked at as quickly as a part."""
    if len(signature.inputs) > 1 or not signature.batched:
        return False
    (spec,) = signature.inputs
    sizes = [size for size in spec.shape[1:] if size is not None]
    whole = spec.datatype is not Datatype.BYTES and len(sizes) == len(spec.shape) - 1
    return whole and prod(sizes) * STORAGE[spec.datatype].itemsize <= PEEKED_BYTES


FoundT = TypeVar("FoundT")


async def _within(seconds: float, looking: Awaitable[FoundT]) -> FoundT | None:
    """What is found in time."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await looking
    except TimeoutError:
        return None


def _rows(array: Array) -> int | None:
    return array.shape[0] if array.ndim else None


def _state(
    tier: TierName, counts: TierCounts, economy: Economy, entries: int | None, size_bytes: int | None
) -> TierState:
    return TierState(tier, counts, entries, size_bytes, economy.pays, economy.cost_s, economy.saves_s)
