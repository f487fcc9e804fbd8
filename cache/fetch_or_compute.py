"""Fetches or computes the rows of one query that were not all in memory."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from sluice.cache.entry import CacheEntry, has_rows, row_of
from sluice.cache.joining import Limits, joined, taken_out
from sluice.cache.single_flight import Flight, SingleFlight, landed
from sluice.cache.tiers import NOWHERE, Tiers, Use
from sluice.cache.turns import light_steps, steps
from sluice.inference.errors import DeadlineExceeded
from sluice.inference.types import Arrays, CacheUse, Caching, Query, Recall

SHARED_FAILURES = 2
"""After a row has failed this often while others waited for it, each of them computes it for itself: then no request
waits for a long series of failures, and each gets its own error."""


class Computed(Protocol):
    """The model's answer to a query. `outputs` may be views that others share; times are in seconds."""

    @property
    def outputs(self) -> Arrays: ...
    @property
    def queue_s(self) -> float: ...
    @property
    def batch_s(self) -> float: ...
    @property
    def compute_s(self) -> float: ...
    @property
    def batch_rows(self) -> int: ...
    @property
    def late(self) -> bool: ...


Compute: TypeAlias = Callable[[Query], Awaitable[Computed]]
"""Has the model answer a query. Raises what the model refuses it or fails with."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a query. `outputs` are in the wanted order, and read-only.

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


class RowFetch:
    """Leads the rows that nobody computes yet, follows the others, and puts the answer together.

    The rows that it leads are looked up in Redis and then computed, all in one query; all followers get the result. It
    waits for others only when it leads nothing any more, so that two queries never wait for each other. When a leader
    is cancelled or fails, the first of its followers to wake up leads.

    `keys` are the query's, in order, and `found` what memory holds of them. `promised_s` is when the answer is due.
    Each stage goes in steps, between which others have their turns and the deadline is checked; but what the model
    has answered is kept first.
    """

    def __init__(
        self,
        tiers: Tiers,
        flights: SingleFlight,
        use: Use,
        query: Query,
        compute: Compute,
        keys: Sequence[bytes],
        found: dict[bytes, Arrays],
        clock: Callable[[], float],
        promised_s: float,
        limits: Limits,
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
        self._limits = limits
        self._weight = query.rows // len(keys)
        self._epoch = tiers.epoch
        self._computed_rows = self._batch_rows = 0
        self._queue_s = self._batch_s = self._compute_s = 0.0
        self._late = False
        self._whole: Arrays | None = None

    async def run(self) -> Answer:
        """The answer. Raises what the model refused or failed with, `DeadlineExceeded` and `RequestTooLarge`."""
        places = await self._places()
        failures = 0
        alone = self._query.caching is Caching.RENEW
        while places and self._whole is None:
            followed = await self._go_ahead(places, alone=alone)
            if followed and self._whole is None:
                failures += await self._follow(followed)
            # Every row that was led is found by now, or an error was raised.
            places = {key: places[key] for key in followed if key not in self._found}
            alone = failures >= SHARED_FAILURES
        outputs = self._whole or await joined(self._found, self._keys, self._limits)
        if outputs is None:
            # The model gave these rows outputs of different shapes at different times: ask it for all of them.
            outputs = await self._whole_anew()
        cached = CacheUse(self._query.rows, self._query.rows - self._computed_rows)
        times = (self._queue_s, self._batch_s, self._compute_s)
        return Answer(outputs, *times, self._late, cached, None, self._batch_rows)

    async def _places(self) -> dict[bytes, int]:
        """The first place of each key that memory does not hold."""
        keys, found = self._keys, self._found
        places: dict[bytes, int] = {}
        for start, stop in light_steps(len(keys)):
            if start:
                await self._limits.turn()
            for place, key in enumerate(keys[start:stop], start):
                if key not in found:
                    places.setdefault(key, place)
        return places

    async def _go_ahead(self, places: Mapping[bytes, int], *, alone: bool) -> dict[bytes, Flight]:
        """Find or compute the rows that nobody else computes, for all who want them; the flights of the others."""
        led: dict[bytes, Flight] = {}
        followed: dict[bytes, Flight] = {}
        keys = list(places)
        try:
            for start, stop in light_steps(len(keys)):
                if start:
                    await self._limits.turn()
                self._part(keys[start:stop], led, followed, alone=alone)
            if led:
                await self._lead(led, places)
        except Exception:
            for flight in led.values():
                flight.failed = not flight.over
            raise
        finally:
            for key, flight in led.items():
                self._flights.end(key, flight)
        return followed

    def _part(
        self, keys: Iterable[bytes], led: dict[bytes, Flight], followed: dict[bytes, Flight], *, alone: bool
    ) -> None:
        """Begin a flight for each key that is not to be followed."""
        for key in keys:
            flight = None if alone else self._flights.to_follow(key, self._query)
            if flight is None:
                led[key] = self._flights.begin(key, self._query)
            else:
                followed[key] = flight

    async def _follow(self, followed: Mapping[bytes, Flight]) -> int:
        """Take what others compute; 1 if one of them failed."""
        from_s = self._clock()
        if not await landed(followed.values(), self._query.deadline_s - from_s):
            waited_s = self._clock() - from_s
            raise DeadlineExceeded(
                f"the deadline was over: the request had waited {waited_s:.3f} s for rows that another one had computed"
            )
        self._late = self._late or self._clock() > self._promised_s
        taken = 0
        for key, flight in followed.items():
            if flight.entry is not None:
                self._found[key] = flight.entry.outputs
                taken += 1
        self._tiers.followed(taken * self._weight)
        return int(any([flight.failed for flight in followed.values()]))

    async def _lead(self, flights: Mapping[bytes, Flight], places: Mapping[bytes, int]) -> None:
        mine: Sequence[bytes] = list(flights)
        others: Sequence[bytes] = ()
        if self._use.redis:
            if self._query.caching is not Caching.RENEW:
                mine = await self._fetched(mine, flights)
            if mine:
                mine, others = await self._tiers.claim(mine, self._limits)
        if mine:
            await self._have_computed(mine, flights, places)
        if others and self._whole is None:
            await self._tiers.awaited(
                *(self._query, others, self._weight, self._limits), lambda entries: self._land(entries, flights)
            )
            if still := await self._missing(others):
                await self._have_computed(still, flights, places)

    async def _fetched(self, keys: Sequence[bytes], flights: Mapping[bytes, Flight]) -> list[bytes]:
        """Take from Redis what it holds of these keys; the others."""
        size_bytes = 0

        def land(entries: Mapping[bytes, CacheEntry]) -> None:
            nonlocal size_bytes
            self._land(entries, flights)
            size_bytes += sum([array.nbytes for entry in entries.values() for array in entry.outputs])
            self._limits.check(size_bytes)

        await self._tiers.fetch(self._query, keys, self._weight, self._limits, land)
        return await self._missing(keys)

    async def _have_computed(
        self, keys: Sequence[bytes], flights: Mapping[bytes, Flight], places: Mapping[bytes, int]
    ) -> None:
        """Have the model compute these keys' rows, in one query, and keep and land the answers."""
        try:
            part = await self._query_of([places[key] for key in keys])
            outputs = await self._ask(part)
        except BaseException:
            self._tiers.release(keys)
            raise
        if self._tiers.by_row and not has_rows(outputs, part.rows):
            # It is unknown which output belongs to which row: nothing is kept, and no part can stand for the whole.
            self._tiers.release(keys)
            self._whole = outputs if part is self._query else await self._whole_anew()
            return
        if part is self._query:
            self._whole = outputs
        await self._keep(keys, outputs, flights)

    async def _keep(self, keys: Sequence[bytes], outputs: Arrays, flights: Mapping[bytes, Flight]) -> None:
        """Keep what the model gave, deadline or not: others may be waiting for it."""
        tiers, turns = self._tiers, self._limits.turns
        size_bytes = sum([array.nbytes for array in outputs])
        for start, stop in steps(len(keys), size_bytes, len(outputs)):
            if start:
                await turns.next(math.inf)
            use = self._use if tiers.epoch == self._epoch else NOWHERE
            kept: dict[bytes, CacheEntry] = {}
            for place, key in enumerate(keys[start:stop], start):
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

    async def _query_of(self, places: Sequence[int]) -> Query:
        """The query of these rows alone; of all of them, the query itself."""
        query = self._query
        if len(places) * self._weight == query.rows:
            return query
        inputs = await taken_out(query.inputs, places, self._limits)
        return msgspec.structs.replace(query, inputs=inputs, rows=len(places))

    async def _missing(self, keys: Sequence[bytes]) -> list[bytes]:
        missing: list[bytes] = []
        for start, stop in light_steps(len(keys)):
            if start:
                await self._limits.turn()
            missing += [key for key in keys[start:stop] if key not in self._found]
        return missing

    def _land(self, entries: Mapping[bytes, CacheEntry], flights: Mapping[bytes, Flight]) -> None:
        for key, entry in entries.items():
            self._found[key] = entry.outputs
            self._flights.land(key, flights[key], entry)
