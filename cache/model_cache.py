"""The cache of one model version: queries in, answers out, and the model asked only for what nobody knows yet."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial

import msgspec

from cache.entry import Entry, has_rows, join
from cache.flights import Flights
from cache.keys import Keys, content_bytes, only_key, row_keys
from cache.memory import MemoryTier
from cache.remote import RemoteTier
from cache.report import ModelState
from cache.tiers import NOWHERE, STEP_ROWS, CachedModel, Tiers, Use
from cache.walk import Answer, Compute, Walk, uncached
from inference.types import Arrays, CacheUse, Caching, Query

INLINE_BYTES = 1 << 20
"""Up to so much is digested at once, in a fraction of a millisecond; more goes to a thread, which holds no lock."""

# A name of a module is found in half the time of a member of an enumeration.
USE, RENEW, PASS = Caching

ONE_HIT = CacheUse(1, 1)
ONE_MISS = CacheUse(1, 0)


class EntryRecall(msgspec.Struct, frozen=True, gc=False):
    """The entry that one row was answered from. Implements `inference.types.Recall`."""

    tiers: Tiers
    key: bytes
    entry: Entry
    clock: Callable[[], float]

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

    All methods belong to the event loop's thread. `clock` is the clock of deadlines and must be monotonic.
    """

    def __init__(
        self,
        subject: CachedModel,
        memory: MemoryTier | None,
        redis: RemoteTier | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = subject.owner
        self._scope = subject.scope
        self._clock = clock
        self._objective_s = math.inf if subject.objective_s is None else subject.objective_s
        self._keys = Keys(f"{subject.digest} {subject.engine}", subject.signature, subject.scope)
        self._tiers = Tiers(subject, memory, redis, clock)
        self._flights = Flights()

    @property
    def pays(self) -> bool:
        """Whether all rows are looked up, and not only a sample of them."""
        tiers = self._tiers
        there = tiers.there
        return (there.memory and tiers.memory_pays.pays) or (there.redis and tiers.redis_pays.pays)

    async def answer(self, query: Query, compute: Compute) -> Answer:
        """The answer to a query, with `compute` asked for what no tier holds.

        Raises what `compute` raises, and `DeadlineExceeded` where the deadline was over before another query had
        computed a row that this one waited for.
        """
        rows = query.rows
        if query.caching is PASS or not rows:
            return uncached(await compute(query), None)
        tiers = self._tiers
        use = tiers.there if query.caching is RENEW else tiers.in_use(query)
        if use is NOWHERE:
            return uncached(await compute(query), ONE_MISS if rows == 1 else CacheUse(rows, 0))
        started_s = self._clock()
        if rows > 1 or content_bytes(query.inputs) > INLINE_BYTES:
            return await self._answer_many(query, compute, use)
        key = only_key(self._keys.hasher(query), query.inputs)
        if use.memory and query.caching is USE:
            entry = tiers.recall_one(key, started_s)
            tiers.recalled(1, 0 if entry is None else 1, self._clock() - started_s)
            if entry is not None:
                return Answer(entry.outputs, cached=ONE_HIT, recall=EntryRecall(tiers, key, entry, self._clock))
        if tiers.leasing or (query.caching is USE and self._flights.to_follow(key, query) is not None):
            return await self._walk(query, compute, use, (key,), {}, started_s)
        return await self._lead_one(query, compute, use, key)

    async def _lead_one(self, query: Query, compute: Compute, use: Use, key: bytes) -> Answer:
        """One row that nobody else is computing: as in a walk, in a third of its time."""
        tiers = self._tiers
        flight, epoch = self._flights.begin(key, query), tiers.epoch
        try:
            if use.redis and query.caching is USE and (fetched := await tiers.fetch(query, (key,), 1)):
                self._flights.land(key, flight, fetched[key])
                return Answer(fetched[key].outputs, cached=ONE_HIT)
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
        look = use.memory and query.caching is USE
        keys: list[bytes] = []
        found: dict[bytes, Arrays] = {}
        spent_s = 0.0
        for digest in self._steps(query):
            if keys:
                await asyncio.sleep(0)
            began_s = clock()
            step = digest() if self._is_quick(query) else await asyncio.to_thread(digest)
            keys += step
            if look:
                found |= tiers.recall(step, began_s)
            spent_s += clock() - began_s
        if look:
            hits = sum([key in found for key in keys]) * rows // len(keys)
            tiers.recalled(rows, hits, spent_s)
            if hits == rows and (outputs := join([found[key] for key in keys])) is not None:
                return Answer(outputs, cached=CacheUse(rows, rows))
        return await self._walk(query, compute, use, keys, found, started_s)

    def _steps(self, query: Query) -> Iterator[Callable[[], list[bytes]]]:
        """What gives the keys, in order, a bounded number of bytes at a time."""
        hasher, inputs, rows = self._keys.hasher(query), query.inputs, query.rows
        if not self._tiers.by_row:
            yield lambda: [only_key(hasher, inputs)]
            return
        step = max(1, min(STEP_ROWS, INLINE_BYTES * rows // max(1, content_bytes(inputs))))
        for start in range(0, rows, step):
            yield partial(row_keys, hasher, inputs, start, min(rows, start + step))

    def _is_quick(self, query: Query) -> bool:
        """Whether a step takes too little time for a thread to be worth it."""
        size_bytes = content_bytes(query.inputs)
        return size_bytes <= INLINE_BYTES * (query.rows if self._tiers.by_row else 1)

    def _walk(
        self,
        query: Query,
        compute: Compute,
        use: Use,
        keys: Sequence[bytes],
        found: dict[bytes, Arrays],
        started_s: float,
    ) -> Coroutine[None, None, Answer]:
        promised_s = min(query.deadline_s, started_s + self._objective_s)
        return Walk(self._tiers, self._flights, use, query, compute, keys, found, self._clock, promised_s).run()

    @property
    def space(self) -> str:
        """Where the entries stand in Redis. Versions with the same files share them."""
        return self._tiers.space

    def count_eviction(self) -> None:
        """One of this version's entries had to make room in memory."""
        self._tiers.memory_counts.evicted += 1

    def forget(self) -> None:
        """Keep nothing of what is being computed now, and let nobody follow it: what was kept is being thrown away."""
        self._tiers.epoch += 1
        self._flights.forget()

    def state(self) -> ModelState:
        """What stands now."""
        return ModelState(self.owner, self._scope, self._tiers.followers, self._tiers.states())
