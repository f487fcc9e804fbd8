"""One coarse timer for all connections of a server, instead of one timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

_SLOWEST_S = 1.0
_QUICKEST_S = 0.005


class Timed:
    """Something that must have moved on before `deadline`, in the loop's own time (`math.inf`: no hurry)."""

    __slots__ = ()

    deadline: float

    def overdue(self, now: float) -> None:
        """The deadline has passed. Sets a later one, or ends the connection."""
        raise NotImplementedError


class Sweep:
    """Calls `overdue` on what has passed its deadline, at most `period_s` late.

    The period is a quarter of the shortest timeout, between 5 ms and 1 s. The timer lives only while there are
    connections, so that it never wakes an idle server. One server, one loop.
    """

    __slots__ = ("_timer", "period_s")

    def __init__(self, timeouts_s: Iterable[float]) -> None:
        self.period_s = min(_SLOWEST_S, max(_QUICKEST_S, min(timeouts_s) / 4))
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[object]) -> None:
        """See to it that the timer runs. `connections` is the server's own set, and may hold what is not `Timed`."""
        if self._timer is None:
            self._timer = loop.call_later(self.period_s, self._tick, loop, connections)

    def _tick(self, loop: asyncio.AbstractEventLoop, connections: Collection[object]) -> None:
        self._timer = None
        now = loop.time()
        for connection in tuple(connections):
            if isinstance(connection, Timed) and now >= connection.deadline:
                connection.overdue(now)
        if connections:
            self.watch(loop, connections)
