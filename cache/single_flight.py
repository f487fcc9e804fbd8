"""Single-flight: rows that are being computed are waited for, not computed again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec

from sluice.cache.entry import CacheEntry
from sluice.inference.types import Query


class Waiter:
    """A query that waits until some flights are over. `waiting` counts those that are not."""

    __slots__ = ("all_over", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.all_over: asyncio.Future[None] = loop.create_future()
        self.waiting = 0

    def one_over(self) -> None:
        """One flight less to wait for."""
        self.waiting -= 1
        if not self.waiting and not self.all_over.done():
            self.all_over.set_result(None)


class Flight(msgspec.Struct, eq=False, gc=False):
    """One row that is being computed. Its leader lands it with an entry, or gives it up; then it is over.

    `failed` is true of one that was given up for an error and not because the leader's client has gone.
    `waiters` are there once somebody waits for it: most rows are never asked for twice at the same time. They are in a
    circle with it until it is over, as every flight is once; so no collection need look at it.
    """

    priority: int
    deadline_s: float
    entry: CacheEntry | None = None
    waiters: set[Waiter] | None = None
    over: bool = False
    failed: bool = False

    def hurries(self, query: Query) -> bool:
        """Whether it is at least as urgent as the query: a caller must not wait for one that has more time."""
        return self.priority <= query.priority and self.deadline_s <= query.deadline_s


class SingleFlight:
    """The rows of one model version that are being computed, by their keys.

    A flight belongs to its leader, which must end each one that it has begun, whatever happens to itself.
    """

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def to_follow(self, key: bytes, query: Query) -> Flight | None:
        """The flight of a key, if there is one that is urgent enough for the query."""
        flight = self._flights.get(key)
        return flight if flight is not None and flight.hurries(query) else None

    def begin(self, key: bytes, query: Query) -> Flight:
        """Begin a flight. One that is under way for the same key goes on for its followers."""
        flight = self._flights[key] = Flight(query.priority, query.deadline_s)
        return flight

    def land(self, key: bytes, flight: Flight, entry: CacheEntry) -> None:
        """End a flight with what was computed."""
        flight.entry = entry
        self.end(key, flight)

    def end(self, key: bytes, flight: Flight) -> None:
        """End a flight; without an entry, one of its followers takes over. Does nothing to one that is over."""
        if flight.over:
            return
        flight.over = True
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.waiters is not None:
            for waiter in flight.waiters:
                waiter.one_over()
            flight.waiters = None

    def forget(self) -> None:
        """Let no new query follow what is under way now."""
        self._flights.clear()


async def landed(flights: Collection[Flight], timeout_s: float) -> bool:
    """Wait until all flights are over; false if that takes too long. A caller that is cancelled disturbs nobody."""
    waiter = Waiter(asyncio.get_running_loop())
    for flight in flights:
        if not flight.over:
            if flight.waiters is None:
                flight.waiters = set()
            flight.waiters.add(waiter)
            waiter.waiting += 1
    if not waiter.waiting:
        return True
    try:
        async with asyncio.timeout(max(0.0, timeout_s)):
            await waiter.all_over
    except TimeoutError:
        return False
    finally:
        if waiter.waiting:
            for flight in flights:
                if flight.waiters is not None:
                    flight.waiters.discard(waiter)
    return True
