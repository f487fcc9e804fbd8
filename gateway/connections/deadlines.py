"""One coarse timer for all connections of a server, instead of one timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from sluice.gateway.connections.held_bytes import HeldBytes

_SLOWEST_S = 1.0
_QUICKEST_S = 0.005


class Timed(Protocol):
    """A connection as `DeadlineSweep` sees it."""

    @property
    def deadline(self) -> float:
        """When it is overdue, in the event loop's time; `math.inf`: never."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """How much was unsent when it was last counted; 0 where nothing waits to be sent."""
        ...

    def recount(self) -> None:
        """Count anew how much is unsent. Called where something was."""
        ...

    def make_room(self, now: float) -> None:
        """End the connection if it is too slow. Called while more is held than may be."""
        ...

    def overdue(self, now: float) -> None:
        """Set a later deadline, or end the connection. Called once the deadline has passed."""
        ...


class DeadlineSweep:
    """Calls `overdue` on each connection that has passed its deadline, at most `period_s` late.

    While more is `held` than may be, it calls `make_room`, too, on the connections with most unsent first, until there
    is room. The period is a quarter of the shortest timeout, between 5 ms and 1 s. The timer runs only while there are
    connections, so that it never wakes an idle server. Each server has a sweep of its own.
    """

    __slots__ = ("_held", "_timer", "period_s")

    def __init__(self, timeouts_s: Iterable[float], held: HeldBytes) -> None:
        self._held = held
        self.period_s = min(_SLOWEST_S, max(_QUICKEST_S, min(timeouts_s) / 4))
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Timed]) -> None:
        """Start the timer if it does not run. `connections` are those that are open, now and later."""
        if self._timer is None:
            self._timer = loop.call_later(self.period_s, self._tick, loop, connections)

    def _tick(self, loop: asyncio.AbstractEventLoop, connections: Collection[Timed]) -> None:
        self._timer = None
        now = loop.time()
        timed = tuple(connections)
        unsent = [connection for connection in timed if connection.unsent_bytes]
        for connection in unsent:
            connection.recount()
        if self._held.over:
            self._make_room(now, unsent)
        for connection in timed:
            if now >= connection.deadline:
                connection.overdue(now)
        if connections:
            self.watch(loop, connections)

    def _make_room(self, now: float, unsent: list[Timed]) -> None:
        for connection in sorted(unsent, key=lambda each: each.unsent_bytes, reverse=True):
            if not self._held.over:
                return
            connection.make_room(now)
