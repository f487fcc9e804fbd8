"""The way of one query through the cache, where not all of its rows were in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from cache.entry import Entry, has_rows, join, row_of
from cache.flights import Flight, Flights, landed
from cache.tiers import NOWHERE, STEP_ROWS, Tiers, Use
from inference.errors import DeadlineExceeded
from inference.types import Arrays, CacheUse, Caching, Query, Recall

SHARED_FAILURES = 2
"""A row that failed so often while others waited for it is computed by each of them for itself: then nobody waits for
a long row of failures, and each gets the error that is its own."""


class Computed(Protocol):
    """What the model said of a query. `outputs` may be views that others share; times are in seconds."""

    @property
    def outputs(self) -> Arrays: ...  # noqa: D102
    @property
    def queue_s(self) -> float: ...  # noqa: D102
    @property
    def batch_s(self) -> float: ...  # noqa: D102
    @property
    def compute_s(self) -> float: ...  # noqa: D102
    @property
    def batch_rows(self) -> int: ...  # noqa: D102
    @property
    def late(self) -> bool: ...  # noqa: D102


Compute: TypeAlias = Callable[[Query], Awaitable[Computed]]
"""Has the model answer a query, or raises whatever it refuses or fails with."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a query. `outputs` are in the wanted order; nobody may write to them.

    The times are those of the rows that were computed: the longest wait, how long their batches took from dispatch to
    answer, and what they cost the engine, all together.
    `batch_rows` is the largest batch that they travelled in; zero if none was computed.
    """

    outputs: Arrays
    queue_s: float = 0.0
    batch_s: float = 0.0
    compute_s: float = 0.0
    late: bool = False
    cached: CacheUse | None = None
    recall: Recall | None = None
    batch_rows: int = 0


def uncached(computed: Computed, cached: CacheUse | None) -> Answer:
    """The answer as the model gave it."""
    times = (computed.queue_s, computed.batch_s, computed.compute_s)
    return Answer(computed.outputs, *times, computed.late, cached, None, computed.batch_rows)


class Walk:
    """Leads the rows that nobody computes yet, follows the others, and puts the answer together.

    A row that it leads is looked for in Redis and then computed, all of them in one query; what becomes of it, all who
    follow it hear. It waits for others only when it leads nothing any more, so that two walks never wait for each
    other. When a leader is cancelled or fails, the first of its followers to wake up leads.

    `keys` are the query's, in order, and `found` what memory holds of them. `promised_s` is when the answer is due.
    """

    def __init__(
        self,
        tiers: Tiers,
        flights: Flights,
        use: Use,
        query: Query,
        compute: Compute,
        keys: Sequence[bytes],
        found: dict[bytes, Arrays],
        clock: Callable[[], float],
        promised_s: float,
    ) -> None:
        self._tiers = tiers
        self._flights = flights
        self._use = use
        self._query = query
        self._compute = compute
        self._keys = keys
        self._found = found
        self._clock = clock
        self._promised_s = promised_s
        self._weight = query.rows // len(keys)
        self._epoch = tiers.epoch
        self._computed_rows = self._batch_rows = 0
        self._queue_s = self._batch_s = self._compute_s = 0.0
        self._late = False
        self._whole: Arrays | None = None

    async def run(self) -> Answer:
        """The answer. Raises what the model refused or failed with, and `DeadlineExceeded`."""
        places: dict[bytes, int] = {}
        for place, key in enumerate(self._keys):
            if key not in self._found:
                places.setdefault(key, place)
        failures = 0
        alone = self._query.caching is Caching.RENEW
        while places and self._whole is None:
            led, followed = self._parted(places, alone=alone)
            if led:
                await self._lead(led, places)
            if followed and self._whole is None:
                failures += await self._follow(followed)
            places = {key: place for key, place in places.items() if key not in self._found}
            alone = failures >= SHARED_FAILURES
        outputs = self._whole or join([self._found[key] for key in self._keys])
        if outputs is None:
            # The model gave these rows outputs of different shapes at different times: it alone can tell.
            outputs = await self._whole_anew()
        cached = CacheUse(self._query.rows, self._query.rows - self._computed_rows)
        times = (self._queue_s, self._batch_s, self._compute_s)
        return Answer(outputs, *times, self._late, cached, None, self._batch_rows)

    def _parted(self, keys: Iterable[bytes], *, alone: bool) -> tuple[dict[bytes, Flight], dict[bytes, Flight]]:
        """The keys to lead, with a new flight each, and the flights to follow."""
        led: dict[bytes, Flight] = {}
        followed: dict[bytes, Flight] = {}
        for key in keys:
            flight = None if alone else self._flights.to_follow(key, self._query)
            if flight is None:
                led[key] = self._flights.begin(key, self._query)
            else:
                followed[key] = flight
        return led, followed

    async def _follow(self, followed: Mapping[bytes, Flight]) -> int:
        """Take what others compute; 1 if one of them failed."""
        from_s = self._clock()
        if not await landed(followed.values(), self._query.deadline_s - from_s):
            waited_s = self._clock() - from_s
            raise DeadlineExceeded(
                f"the deadline was over: the request had waited {waited_s:.3f} s for rows that another one had computed"
            )
        self._late = self._late or self._clock() > self._promised_s
        taken = {key: flight.entry.outputs for key, flight in followed.items() if flight.entry is not None}
        self._found |= taken
        self._tiers.followed(len(taken) * self._weight)
        return int(any([flight.failed for flight in followed.values()]))

    async def _lead(self, flights: Mapping[bytes, Flight], places: Mapping[bytes, int]) -> None:
        """Find or compute rows, for oneself and for all who follow."""
        try:
            if self._use.redis and self._query.caching is not Caching.RENEW:
                self._land(await self._tiers.fetch(self._query, list(flights), self._weight), flights)
            mine = self._missing(flights)
            others: list[bytes] = []
            if self._use.redis and mine:
                mine, others = await self._tiers.claim(mine)
            if mine:
                await self._have_computed(mine, flights, places)
            if others and self._whole is None:
                self._land(await self._tiers.awaited(self._query, others, self._weight), flights)
                if still := self._missing(others):
                    await self._have_computed(still, flights, places)
        except Exception:
            for flight in flights.values():
                flight.failed = True
            raise
        finally:
            for key, flight in flights.items():
                self._flights.end(key, flight)

    async def _have_computed(
        self, keys: Sequence[bytes], flights: Mapping[bytes, Flight], places: Mapping[bytes, int]
    ) -> None:
        """Have the model compute these keys' rows, in one query, and keep and land the answers."""
        try:
            part = self._part([places[key] for key in keys])
            outputs = await self._ask(part)
        except BaseException:
            self._tiers.release(keys)
            raise
        if self._tiers.by_row and not has_rows(outputs, part.rows):
            # Which output belongs to which row, nobody knows: nothing is kept, and no part can stand for the whole.
            self._tiers.release(keys)
            self._whole = outputs if part is self._query else await self._whole_anew()
            return
        if part is self._query:
            self._whole = outputs
        await self._keep(keys, outputs, flights)

    async def _keep(self, keys: Sequence[bytes], outputs: Arrays, flights: Mapping[bytes, Flight]) -> None:
        tiers = self._tiers
        for start in range(0, len(keys), STEP_ROWS):
            if start:
                await asyncio.sleep(0)
            use = self._use if tiers.epoch == self._epoch else NOWHERE
            kept: dict[bytes, Entry] = {}
            for place, key in enumerate(keys[start : start + STEP_ROWS], start):
                row = row_of(outputs, place) if tiers.by_row else outputs
                kept[key] = tiers.store(key, row, use, self._weight)
            self._land(kept, flights)
            if use.redis:
                tiers.send(self._query, kept)

    async def _ask(self, query: Query) -> Arrays:
        computed = await self._compute(query)
        self._computed_rows += query.rows
        self._queue_s = max(self._queue_s, computed.queue_s)
        self._batch_s += computed.batch_s
        self._compute_s += computed.compute_s
        self._batch_rows = max(self._batch_rows, computed.batch_rows)
        self._late = self._late or computed.late
        self._tiers.model.computed(computed.compute_s, computed.batch_rows, query.rows)
        return computed.outputs

    async def _whole_anew(self) -> Arrays:
        self._computed_rows = 0
        return await self._ask(self._query)

    def _part(self, places: Sequence[int]) -> Query:
        """The query of these rows alone; of all of them, the query itself."""
        query = self._query
        if len(places) * self._weight == query.rows:
            return query
        inputs = tuple([array[places] for array in query.inputs])
        return msgspec.structs.replace(query, inputs=inputs, rows=len(places))

    def _missing(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key not in self._found]

    def _land(self, entries: Mapping[bytes, Entry], flights: Mapping[bytes, Flight]) -> None:
        for key, entry in entries.items():
            self._found[key] = entry.outputs
            self._flights.land(key, flights[key], entry)
