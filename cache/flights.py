"""Single-flight: rows that are being computed are waited for, not computed again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from cache.entry import Entry
from inference.types import Query


class Flight(msgspec.Struct, eq=False):
    """One row that somebody computes. Its leader lands it with an entry, or gives it up; then it is over.

    `failed` is true of one that was given up for an error and not because the leader's client has gone.
    `landing` is there once somebody waits for it: most rows are never asked for twice at the same time.
    """

    priority: int
    deadline_s: float
    entry: Entry | None = None
    landing: asyncio.Future[None] | None = None
    over: bool = False
    failed: bool = False

    def hurries(self, query: Query) -> bool:
        """Whether it is at least as urgent as the query: a caller must not be kept by one who has more time."""
        return self.priority <= query.priority and self.deadline_s <= query.deadline_s


class Flights:
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
        """A flight of one's own. One that is under way for the same key goes on for those who follow it already."""
        flight = self._flights[key] = Flight(query.priority, query.deadline_s)
        return flight

    def land(self, key: bytes, flight: Flight, entry: Entry) -> None:
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
        if flight.landing is not None and not flight.landing.done():
            flight.landing.set_result(None)

    def forget(self) -> None:
        """Let nobody follow what is under way now."""
        self._flights.clear()


async def landed(flights: Iterable[Flight], timeout_s: float) -> bool:
    """Wait until all flights are over; false if that takes too long. A caller that is cancelled disturbs nobody."""
    loop = asyncio.get_running_loop()
    landings = set()
    for flight in flights:
        if flight.over:
            continue
        if flight.landing is None:
            flight.landing = loop.create_future()
        landings.add(flight.landing)
    if not landings:
        return True
    _, waiting = await asyncio.wait(landings, timeout=max(0.0, timeout_s))
    return not waiting
