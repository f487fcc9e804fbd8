"""What all connections of the gRPC server share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Protocol

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.deadlines import DeadlineSweep, Timed
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.grpc.limits import GrpcLimits
from sluice.gateway.grpc.methods import Method
from sluice.gateway.telemetry.fault_log import FaultLog


class ServedConnection(Timed, Protocol):
    """A connection, as its server sees it."""

    def leave(self) -> None:
        """Finish the calls in flight, and end then."""
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


class ServerContext:
    """What all connections of one server share. It belongs to one event loop.

    `methods` are the methods by their paths, such as `/inference.GRPCInferenceService/ModelInfer`.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        limits: GrpcLimits,
        held: HeldBytes,
        budget: ConnectionBudget,
        coders: Executor,
    ) -> None:
        self.methods = methods
        self.limits = limits
        self.held = held
        self.coders = coders
        """Threads that compress and inflate messages."""
        self.connections: set[ServedConnection] = set()
        self.calls_in_flight = 0
        self.leaving = False
        self.ending: set[asyncio.Task[None]] = set()
        """Tasks of calls that were cancelled and have not ended yet: the loop itself keeps no reference to them."""
        self._budget = budget
        self._sweep = DeadlineSweep(_timeouts_s(limits), held)
        self.faults = FaultLog()
        self._empty: asyncio.Future[None] | None = None

    def enter(self, connection: ServedConnection) -> None:
        """Add a connection that was made, and keep its deadlines from now on."""
        self.connections.add(connection)
        self._sweep.watch(asyncio.get_running_loop(), self.connections)

    def forget(self, connection: ServedConnection) -> None:
        """Remove a connection that is gone."""
        self.connections.discard(connection)
        self._budget.leave()
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def is_full(self) -> bool:
        """Whether the connection that entered last is one too many."""
        return self._budget.over

    async def emptied(self) -> None:
        """Return once there is no connection."""
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty


def _timeouts_s(limits: GrpcLimits) -> Sequence[float]:
    """All timeouts of a connection. The sweep runs often enough for the shortest of them."""
    wire = limits.wire
    return (
        *(limits.keepalive_time_s, limits.keepalive_timeout_s, wire.request_read_timeout_s),
        *(wire.write_timeout_s, wire.linger_s, wire.crowded_grace_s),
    )
