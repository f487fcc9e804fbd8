"""One coarse timer for all connections of a server, instead of one timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from sluice.gateway.connections.held_bytes import HeldBytes

_SLOWEST_S = 1.0
_QUICKEST_S = 0.005


class Timed:
    """Something that must have moved on before `deadline`, in the loop's own time (`math.inf`: no hurry)."""

    __slots__ = ()

    deadline: float
    unsent_bytes: int
    """What it had not sent when it was last looked at; 0 where nothing waits."""

    def recount(self) -> None:
        """Something was unsent. Counts how much of it still is."""
        raise NotImplementedError

    def make_room(self, now: float) -> None:
        """More is held than may be. Ends the connection if it is to blame."""
        raise NotImplementedError

    def overdue(self, now: float) -> None:
        """The deadline has passed. Sets a later one, or ends the connection."""
        raise NotImplementedError


class DeadlineSweep:
    """Calls `overdue` on what has passed its deadline, at most `period_s` late.

    Once more is `held` than may be, `make_room` as well, on what has most unsent first, until there is room.

    The period is a quarter of the shortest timeout, between 5 ms and 1 s. The timer lives only while there are
    connections, so that it never wakes an idle server. One server, one loop.
    """

    __slots__ = ("_held", "_timer", "period_s")

    def __init__(self, timeouts_s: Iterable[float], held: HeldBytes) -> None:
        self._held = held
        self.period_s = min(_SLOWEST_S, max(_QUICKEST_S, min(timeouts_s) / 4))
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[object]) -> None:
        """See to it that the timer runs. `connections` is the server's own set, and may hold what is not `Timed`."""
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
