"""One coarse timer for all connections of a server, instead of one timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from sluice.gateway.connections.held_bytes import HeldBytes

_SLOWEST_S = 1.0
_QUICKEST_S = 0.005


class Timed:
    """A connection with a `deadline` in the event loop's time (`math.inf`: none)."""

    __slots__ = ()

    deadline: float
    unsent_bytes: int
    """How much was unsent when it was last counted; 0 where nothing waits to be sent."""

    def recount(self) -> None:
        """Count anew how much is unsent. Called where something was."""
        raise NotImplementedError

    def make_room(self, now: float) -> None:
        """End the connection if it is too slow. Called while more is held than may be."""
        raise NotImplementedError

    def overdue(self, now: float) -> None:
        """Set a later deadline, or end the connection. Called once the deadline has passed."""
        raise NotImplementedError


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

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[object]) -> None:
        """Start the timer if it does not run.

        `connections` is the set that the server keeps; what is not `Timed` in it is left alone.
        """
        if self._timer is None:
            self._timer = loop.call_later(self.period_s, self._tick, loop, connections)

    def _tick(self, loop: asyncio.AbstractEventLoop, connections: Collection[object]) -> None:
        self._timer = None
        now = loop.time()
        timed = [connection for connection in connections if isinstance(connection, Timed)]
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
