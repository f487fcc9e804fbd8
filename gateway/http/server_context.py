"""What all connections of a server share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.deadlines import DeadlineSweep
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import LaneLimits
from sluice.gateway.http.head_cache import HeadCache
from sluice.gateway.http.wire import Heads
from sluice.gateway.messages import DataPlane
from sluice.gateway.telemetry.sampler import Sampler

_FAULTS_LOGGED_PER_S = 5


class HttpServerContext:
    """What all connections of one server share. One server, one loop.

    `held` is what this and all other doors hold of requests and answers: each connection sees to its own share. So it
    does with its place in `budget`, which is that of all doors; the limits' bound is this server's own.
    """

    __slots__ = (
        "_budget",
        "_callers_faults",
        "_own_faults",
        "draining",
        "heads",
        "held",
        "known_heads",
        "limits",
        "loop_turns",
        "plane",
        "sweep",
    )

    def __init__(
        self,
        plane: DataPlane[Any],
        limits: LaneLimits,
        draining: Callable[[], bool],
        held: HeldBytes,
        budget: ConnectionBudget | None = None,
    ) -> None:
        self.plane = plane
        self.loop_turns = plane.loop_turns
        self.limits = limits
        self.draining = draining
        self.heads = Heads()
        self.known_heads = HeadCache()
        self.held = held
        self._budget = budget
        self.sweep: DeadlineSweep | None = None
        # What is wrong with us is not to be lost among what is wrong with callers.
        self._own_faults = Sampler(_FAULTS_LOGGED_PER_S)
        self._callers_faults = Sampler(_FAULTS_LOGGED_PER_S)

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[object], keep_alive_s: float) -> None:
        """See to it that the connections' deadlines are kept."""
        if self.sweep is None:
            limits = self.limits
            timeouts_s = (
                *(keep_alive_s, limits.request_read_timeout_s, limits.write_timeout_s),
                *(limits.linger_s, limits.crowded_grace_s),
            )
            self.sweep = DeadlineSweep(timeouts_s, self.held)
        self.sweep.watch(loop, connections)

    def surplus(self, connections: int) -> int:
        """How many connections are open beyond what may be, of so many of this server."""
        own = connections - self.limits.max_connections
        return own if self._budget is None else max(own, self._budget.open - self._budget.limit)

    def left(self) -> None:
        """A connection is gone."""
        if self._budget is not None:
            self._budget.leave()

    def log_fault(self, logger: logging.Logger, level: int, text: str, cause: BaseException | None = None) -> None:
        """Log what a client can bring about at will: a few lines per second, and how many were kept back.

        Errors, which are our own faults, are counted apart from what is less.
        """
        sampler = self._own_faults if level >= logging.ERROR else self._callers_faults
        kept_back = sampler.admit(time.monotonic())
        if kept_back is not None:
            more = f" ({kept_back} such lines were kept back)" if kept_back else ""
            logger.log(level, "%s%s", text, more, exc_info=cause)
