"""Lookups of many requests, sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import msgspec

MOST_KEYS = 512
"""The most keys in one round trip: Redis serves no other client meanwhile."""

MOST_WAITING = 16 * MOST_KEYS
"""The most keys that may wait for a round trip. More than that means that Redis cannot keep up."""


class LookedUp(msgspec.Struct, frozen=True):
    """What was found, in the order of the keys; `cost_s` is their share in the time of the round trip, in seconds."""

    values: Sequence[bytes | None]
    cost_s: float


class _Ask(msgspec.Struct, frozen=True, eq=False):
    names: Sequence[bytes]
    found: asyncio.Future[LookedUp | None]


class Lookups:
    """All that is asked for in one turn of the event loop goes out as one MGET. An async context manager.

    Each of `readers` makes one round trip at a time: it gives the values of names, or `None` where nobody answered.
    While all are busy, what is asked for gathers for the next round trip. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        readers: Sequence[Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | None] | None]]],
        clock: Callable[[], float],
    ) -> None:
        self._idle = list(readers)
        self._clock = clock
        self._waiting: deque[_Ask] = deque()
        self._waiting_keys = 0
        self._turn: asyncio.Handle | None = None
        self._trips: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.give_up()
        for trip in self._trips:
            trip.cancel()
        if self._trips:
            await asyncio.wait(self._trips)

    async def ask(self, names: Sequence[bytes]) -> LookedUp | None:
        """The values of these names; `None` where nobody answered, or too much is asked for. Bears cancellation."""
        if len(names) > MOST_KEYS:
            parts = [names[start : start + MOST_KEYS] for start in range(0, len(names), MOST_KEYS)]
            looked = await asyncio.gather(*[self._ask(part) for part in parts])
            if not all([each is not None for each in looked]):
                return None
            found = [each for each in looked if each is not None]
            return LookedUp([value for each in found for value in each.values], sum([each.cost_s for each in found]))
        return await self._ask(names)

    def _ask(self, names: Sequence[bytes]) -> asyncio.Future[LookedUp | None]:
        found: asyncio.Future[LookedUp | None] = self._loop.create_future()
        if self._waiting_keys + len(names) > MOST_WAITING:
            found.set_result(None)
            return found
        self._waiting.append(_Ask(names, found))
        self._waiting_keys += len(names)
        if self._turn is None:
            self._turn = self._loop.call_soon(self._send)
        return found

    def give_up(self) -> None:
        """End all that wait for a round trip: there will be no answer."""
        while self._waiting:
            ask = self._waiting.popleft()
            if not ask.found.done():
                ask.found.set_result(None)
        self._waiting_keys = 0

    def _send(self) -> None:
        self._turn = None
        while self._idle and (asks := self._next()):
            reader = self._idle.pop()
            trip = self._loop.create_task(self._make(asks, reader))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)

    def _next(self) -> list[_Ask]:
        """The names that go out together: at most `MOST_KEYS`, and none that no caller waits for any more."""
        asks: list[_Ask] = []
        keys = 0
        while self._waiting and keys + len(self._waiting[0].names) <= MOST_KEYS:
            ask = self._waiting.popleft()
            self._waiting_keys -= len(ask.names)
            if not ask.found.done():
                asks.append(ask)
                keys += len(ask.names)
        return asks

    async def _make(
        self, asks: Sequence[_Ask], reader: Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | None] | None]]
    ) -> None:
        names = [name for ask in asks for name in ask.names]
        values: Sequence[bytes | None] | None = None
        began_s = self._clock()
        try:
            values = await reader(names)
        finally:
            self._idle.append(reader)
            key_s = (self._clock() - began_s) / len(names)
            start = 0
            for ask in asks:
                stop = start + len(ask.names)
                if not ask.found.done():
                    ask.found.set_result(
                        None if values is None else LookedUp(values[start:stop], key_s * len(ask.names))
                    )
                start = stop
        if values is None:
            self.give_up()
        elif self._waiting:
            self._send()
