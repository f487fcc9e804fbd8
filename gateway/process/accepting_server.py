"""uvicorn's server with an accept loop of ours."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.inference.errors import StartError


class AcceptingServer(uvicorn.Server):
    """uvicorn's server on bound sockets, its connections accepted by `Acceptor`: counted with those of all doors.

    Its protocols give their places in `budget` back. `doors` watches over its sockets, which it calls `door`.
    """

    def __init__(
        self, config: uvicorn.Config, door: str, budget: ConnectionBudget, doors: DoorWatch, handshake_timeout_s: float
    ) -> None:
        super().__init__(config)
        self._door = door
        self._budget = budget
        self._doors = doors
        self._handshake_timeout_s = handshake_timeout_s
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises `StartError` if somebody else does."""
        await self.lifespan.startup()
        config = self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        self.servers = []
        for listener in sockets or []:
            acceptor = Acceptor(self._door, listener, self._budget, protocol, config.ssl, self._handshake_timeout_s)
            try:
                acceptor.start()
            except OSError as error:
                host, port, *_ = listener.getsockname()
                raise StartError(
                    f"cannot listen on {host}:{port} for {self._door}: {error.strerror or error}"
                ) from None
            self._acceptors.append(acceptor)
            self._doors.add(acceptor)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what the system has accepted already, then listen no more, and finish what is in flight."""
        await asyncio.gather(*[acceptor.leave() for acceptor in self._acceptors])
        # Those that were accepted just now are connected when the loop comes round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().shutdown(sockets)
