"""What all connections of gRPC's server share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.methods import Method
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import DataPlane

if TYPE_CHECKING:
    from sluice.gateway.grpc.connection import GrpcConnection


class ServerContext:
    """What all connections of one server share. One server, one loop.

    `methods` are found by their paths as they stand on the wire.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        plane: DataPlane[Any],
        limits: GrpcLimits,
        held: HeldBytes,
        budget: ConnectionBudget,
        coders: Executor,
        draining: Callable[[], bool],
    ) -> None:
        self.methods = methods
        self.limits = limits
        self.held = held
        self.coders = coders
        """Threads for what is compressed."""
        self.connections: set[GrpcConnection] = set()
        self.calls_underway = 0
        self.leaving = False
        self.ending: set[asyncio.Task[None]] = set()
        """Tasks of calls that are cancelled and not yet at their end."""
        self._budget = budget
        self._door = HttpServerContext(plane, limits.wire, draining, held)
        self._keep_alive_s = min(limits.keepalive_time_s, limits.keepalive_timeout_s)
        self._empty: asyncio.Future[None] | None = None

    def enter(self, connection: GrpcConnection) -> None:
        """A connection was made; its deadlines are kept from now on."""
        self.connections.add(connection)
        self._door.watch(asyncio.get_running_loop(), self.connections, self._keep_alive_s)

    def forget(self, connection: GrpcConnection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self._budget.leave()
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def is_full(self) -> bool:
        """Whether the connection that entered last is one too many."""
        return self._budget.over

    def log_fault(self, logger: logging.Logger, level: int, text: str, cause: BaseException | None = None) -> None:
        """Log what a client can bring about at will: a few lines per second. Nothing that a client sent is in it."""
        self._door.log_fault(logger, level, text, cause)

    async def emptied(self) -> None:
        """Return once there is no connection."""
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty
