"""The cache of one model version: the model computes only the rows that no tier holds and no other query computes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence

import msgspec

from sluice.cache.entry import CacheEntry, has_rows
from sluice.cache.fetch_or_compute import Answer, Compute, RowFetch, uncached
from sluice.cache.joining import Limits, joined
from sluice.cache.keys import Keys, content_bytes, element_keys, only_key, row_keys
from sluice.cache.memory import MemoryTier
from sluice.cache.remote.contract import RemoteTier
from sluice.cache.report import ModelState
from sluice.cache.single_flight import SingleFlight
from sluice.cache.tiers import NOWHERE, CachedModel, Tiers, Use
from sluice.cache.turns import STEP_BYTES, Turns, steps
from sluice.inference.types import Arrays, CacheUse, Caching, Query

# A name of a module is found in half the time of a member of an enumeration.
USE, RENEW, PASS = Caching

ONE_HIT = CacheUse(1, 1)
ONE_MISS = CacheUse(1, 0)


class EntryRecall(msgspec.Struct, frozen=True, gc=False):
    """The entry that one row was answered from. Implements `inference.types.Recall`."""

    tiers: Tiers
    key: bytes
    entry: CacheEntry
    clock: Callable[[], float]

    @property
    def size_bytes(self) -> int:
        """What the entry takes."""
        return self.entry.size_bytes

    def again(self) -> bool:
        """Whether the row would be answered from the very same entry now. If so, it counts as a hit."""
        tiers, clock = self.tiers, self.clock
        started_s = clock()
        if not tiers.memory_pays.pays or tiers.recall_one(self.key, started_s) is not self.entry:
            return False
        tiers.recalled(1, 1, clock() - started_s)
        return True


class ModelCache:
    """Answers queries of one model version by its rows, or by whole requests if the rows depend on each other.

    Every answer is what the model gave to the same rows once, bit for bit. Whatever the tiers do, a query ends as it
    would have without them, and at most a short, bounded time later. Rows that a query shares with another one that is
    being computed are not computed again, unless the query is more urgent than the other.

    Queries of many rows go through in steps, between which others have their `turns`, and end at their deadline at
    whatever step that is. All methods belong to the event loop's thread. `clock` is the clock of deadlines and must be
    monotonic.
    """

    def __init__(
        self,
        subject: CachedModel,
        memory: MemoryTier | None,
        redis: RemoteTier | None,
        clock: Callable[[], float] = time.monotonic,
        turns: Turns | None = None,
    ) -> None:
        self.owner = subject.owner
        self._max_answer_bytes = subject.max_answer_bytes
        self._on_forget = subject.on_forget
        self._turns = Turns(clock) if turns is None else turns
        self._scope = subject.scope
        self._clock = clock
        self._objective_s = math.inf if subject.objective_s is None else subject.objective_s
        self._keys = Keys(f"{subject.digest} {subject.engine}", subject.signature, subject.scope)
        self._tiers = Tiers(subject, memory, redis, clock)
        self._flights = SingleFlight()

    @property
    def pays(self) -> bool:
        """Whether all rows are looked up, and not only a sample of them."""
        tiers = self._tiers
        there = tiers.there
        return (there.memory and tiers.memory_pays.pays) or (there.redis and tiers.redis_pays.pays)

    async def answer(self, query: Query, compute: Compute) -> Answer:
        """The answer to a query, with `compute` asked for what no tier holds.

        Raises what `compute` raises, `DeadlineExceeded` where the deadline was over before all rows were looked up, or
        before another query had computed a row that this one waited for, and `RequestTooLarge` where the rows make an
        answer of more than `max_answer_bytes`.
        """
        rows = query.rows
        if query.caching is PASS or not rows:
            return uncached(await compute(query), None)
        tiers = self._tiers
        use = tiers.there if query.caching is RENEW else tiers.in_use(query)
        if use is NOWHERE:
            return uncached(await compute(query), ONE_MISS if rows == 1 else CacheUse(rows, 0))
        started_s = self._clock()
        if rows > 1 or content_bytes(query.inputs) > STEP_BYTES:
            return await self._answer_many(query, compute, use)
        key = only_key(self._keys.hasher(query), query.inputs)
        if use.memory and query.caching is USE:
            entry = tiers.recall_one(key, started_s)
            tiers.recalled(1, 0 if entry is None else 1, self._clock() - started_s)
            if entry is not None:
                return Answer(entry.outputs, cached=ONE_HIT, recall=EntryRecall(tiers, key, entry, self._clock))
        if tiers.leasing or (query.caching is USE and self._flights.to_follow(key, query) is not None):
            return await self._fetch_or_compute(query, compute, use, (key,), {}, started_s)
        return await self._lead_one(query, compute, use, key)

    async def _lead_one(self, query: Query, compute: Compute, use: Use, key: bytes) -> Answer:
        """One row that no other query computes: the same as `RowFetch`, in a third of its time."""
        tiers = self._tiers
        flight, epoch = self._flights.begin(key, query), tiers.epoch
        try:
            if use.redis and query.caching is USE and (fetched := await tiers.fetch_one(query, key)) is not None:
                self._flights.land(key, flight, fetched)
                return Answer(fetched.outputs, cached=ONE_HIT)
            computed = await compute(query)
            tiers.model.computed(computed.compute_s, computed.batch_rows, 1)
            if not tiers.by_row or has_rows(computed.outputs, 1):
                entry = tiers.store(key, computed.outputs, use if tiers.epoch == epoch else NOWHERE, 1)
                if use.redis and tiers.epoch == epoch:
                    tiers.send(query, {key: entry})
                self._flights.land(key, flight, entry)
            return uncached(computed, ONE_MISS)
        except Exception:
            flight.failed = True
            raise
        finally:
            self._flights.end(key, flight)

    async def _answer_many(self, query: Query, compute: Compute, use: Use) -> Answer:
        """The same in steps, between which others have their turn."""
        tiers, clock, rows = self._tiers, self._clock, query.rows
        started_s = clock()
        limits = Limits(self._turns, query.deadline_s, self._max_answer_bytes)
        look = use.memory and query.caching is USE
        keys: list[bytes] = []
        found: dict[bytes, Arrays] = {}
        hits, spent_s, begun = 0, 0.0, False
        total = rows if tiers.by_row else 1
        quick = self._is_quick(query)
        digests = self._digests(query)
        while len(keys) < total:
            if begun:
                await limits.turn()
            begun = True
            began_s = clock()
            step = next(digests) if quick else await self._in_a_thread(digests, query.deadline_s)
            keys += step
            if look:
                held = tiers.recall(step, began_s)
                hits += sum([key in held for key in step])
                found |= held
            spent_s += clock() - began_s
        if look:
            hits = hits * rows // total
            tiers.recalled(rows, hits, spent_s)
            if hits == rows and (outputs := await joined(found, keys, limits)) is not None:
                return Answer(outputs, cached=CacheUse(rows, rows))
        return await self._fetch_or_compute(query, compute, use, keys, found, started_s)

    def _digests(self, query: Query) -> Iterator[list[bytes]]:
        """The keys, in order, digested as they are asked for: a bounded number of bytes at a time."""
        hasher, inputs, by_row = self._keys.hasher(query), query.inputs, self._tiers.by_row
        if any([array.dtype.hasobject for array in inputs]):
            yield from element_keys(hasher, inputs, query.rows if by_row else None)
        elif by_row:
            for start, stop in steps(query.rows, content_bytes(inputs), len(inputs)):
                yield row_keys(hasher, inputs, start, stop)
        else:
            yield [only_key(hasher, inputs)]

    async def _in_a_thread(self, digests: Iterator[list[bytes]], deadline_s: float) -> list[bytes]:
        """The next keys. All threads may be busy with others: they are not waited for past the deadline."""
        async with self._turns.before(deadline_s):
            return await asyncio.to_thread(next, digests)

    def _is_quick(self, query: Query) -> bool:
        """Whether a step takes too little time for a thread, which holds no lock, to be worth it."""
        size_bytes = sum([array.nbytes for array in query.inputs])
        return size_bytes <= STEP_BYTES * (query.rows if self._tiers.by_row else 1)

    def _fetch_or_compute(
        self,
        query: Query,
        compute: Compute,
        use: Use,
        keys: Sequence[bytes],
        found: dict[bytes, Arrays],
        started_s: float,
    ) -> Coroutine[None, None, Answer]:
        promised_s = min(query.deadline_s, started_s + self._objective_s)
        limits = Limits(self._turns, query.deadline_s, self._max_answer_bytes)
        return RowFetch(
            self._tiers, self._flights, use, query, compute, keys, found, self._clock, promised_s, limits
        ).run()

    @property
    def space(self) -> str:
        """Where the entries stand in Redis. Versions with the same files share them."""
        return self._tiers.space

    def count_eviction(self) -> None:
        """Count an entry of this version that had to make room in memory."""
        self._tiers.memory_counts.evicted += 1

    def forget(self) -> None:
        """Keep nothing of what is being computed now, and let no query follow it: the cached answers are being deleted.

        With it goes what is remembered of the kinds of rows, and whatever else holds answers of this cache.
        """
        self._tiers.epoch += 1
        self._flights.forget()
        self._keys.forget()
        self._on_forget()

    def state(self) -> ModelState:
        return ModelState(self.owner, self._scope, self._tiers.followers, self._tiers.states())
