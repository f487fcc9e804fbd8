"""uvicorn's server, with this gateway's way to accept connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import nullcontext

import uvicorn

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.acceptor import Acceptor
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.inference.errors import StartError


class AcceptingServer(uvicorn.Server):
    """uvicorn's server on bound sockets. `Acceptor` accepts its connections, and counts them in `budget`.

    A connection's protocol gives its place in `budget` back (`ConnectionBudget.leave`). `doors` watches over the
    sockets, under the name `door`. `on_started` is called once connections are accepted. The server catches no signal:
    `StopSignals` does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        door: str,
        budget: ConnectionBudget,
        doors: DoorWatch,
        *,
        handshake_timeout_s: float,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._door = door
        self._budget = budget
        self._doors = doors
        self._handshake_timeout_s = handshake_timeout_s
        self._on_started = on_started
        self._acceptors: list[Acceptor] = []

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]  # uvicorn has a generator
        """Nothing: uvicorn would raise the signals again at the end, and make the exit status an error."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises `StartError` if another socket listens at the address."""
        await self.lifespan.startup()
        config = self.config

        # uvicorn declares a plain `asyncio.Protocol`, whose constructor takes nothing.
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
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what the kernel has accepted already, then stop listening, and finish what is in flight."""
        await asyncio.gather(*[acceptor.leave() for acceptor in self._acceptors])
        # A connection that was accepted just now is handed to its protocol within two turns of the event loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().shutdown(sockets)
