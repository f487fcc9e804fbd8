"""What all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.deadlines import DeadlineSweep, Timed
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.head_cache import HeadCache
from sluice.gateway.http.wire import Heads
from sluice.gateway.messages import DataPlane
from sluice.gateway.telemetry.fault_log import FaultLog


class HttpServerContext:
    """What all connections of one server share. All of them belong to one event loop.

    `held` counts the memory that requests and answers take in this server and in others; each connection counts its own
    share. `budget` bounds the connections of all servers together, `limits.max_connections` those of this one.
    """

    __slots__ = (
        "_budget",
        "draining",
        "faults",
        "head_cache",
        "heads",
        "held",
        "limits",
        "loop_turns",
        "open",
        "plane",
        "sweep",
    )

    def __init__(
        self,
        plane: DataPlane[Any],
        limits: ConnectionLimits,
        draining: Callable[[], bool],
        held: HeldBytes,
        budget: ConnectionBudget | None = None,
    ) -> None:
        self.plane = plane
        self.loop_turns = plane.loop_turns
        self.limits = limits
        self.draining = draining
        self.heads = Heads()
        self.head_cache = HeadCache()
        self.held = held
        self._budget = budget
        self.open: set[Timed] = set()
        self.sweep: DeadlineSweep | None = None
        self.faults = FaultLog()

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Timed], keep_alive_s: float) -> None:
        """Have the deadlines of these connections kept, from the first call on."""
        if self.sweep is None:
            limits = self.limits
            timeouts_s = (
                *(keep_alive_s, limits.request_read_timeout_s, limits.write_timeout_s),
                *(limits.linger_s, limits.crowded_grace_s),
            )
            self.sweep = DeadlineSweep(timeouts_s, self.held)
        self.sweep.watch(loop, connections)

    def enter(self, connection: Timed, loop: asyncio.AbstractEventLoop, keep_alive_s: float) -> None:
        """A connection was made; its deadlines are kept from now on."""
        self.open.add(connection)
        self.watch(loop, self.open, keep_alive_s)

    def surplus(self, connections: int) -> int:
        """How many connections are open beyond the bounds; `connections` is how many this server has."""
        own = connections - self.limits.max_connections
        return own if self._budget is None else max(own, self._budget.open - self._budget.limit)

    def leave(self, connection: Timed) -> None:
        """A connection has ended."""
        self.open.discard(connection)
        if self._budget is not None:
            self._budget.leave()
