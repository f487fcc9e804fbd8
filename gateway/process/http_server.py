"""The server of predictions and pages, and how it stops."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.process.accepting_server import AcceptingServer
from sluice.gateway.serving.drain import Drain
from sluice.gateway.telemetry.logs import log


class DrainingServer(AcceptingServer):
    """uvicorn's server, which stops in a way that load balancers can follow.

    The first signal begins the drain: the gateway is not ready, and answers carry `Connection: close`, while new
    connections and requests are still served for `shutdown_delay_s`, the time that load balancers need to notice. Then
    the server stops listening and finishes what is in flight within uvicorn's `timeout_graceful_shutdown`. A second
    signal ends the delay; a SIGINT after that ends the wait for what is in flight.

    `on_started` is called once connections are accepted. `beside` is awaited while the server shuts down, and stops
    what shall stop at the same time; it keeps to that time by itself.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        budget: ConnectionBudget,
        doors: DoorWatch,
        *,
        shutdown_delay_s: float,
        handshake_timeout_s: float,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config, "http", budget, doors, handshake_timeout_s=handshake_timeout_s, on_started=on_started)
        self._drain = drain
        self._shutdown_delay_s = shutdown_delay_s
        self.beside: Callable[[], Awaitable[None]] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and finish what is in flight, here and beside."""
        if self.beside is None:
            await super().shutdown(sockets)
            return
        stopping = asyncio.ensure_future(self.beside())
        await super().shutdown(sockets)
        if self.force_exit:
            stopping.cancel()
        await asyncio.wait({stopping})

    def handle_exit(self, sig: int, frame: FrameType | None = None) -> None:
        """Begin the drain, or hasten it. Called in the event loop's thread."""
        if not self._drain.begun and self._shutdown_delay_s > 0:
            self._drain.begin()
            log.info("shutting down: not ready, serving on", for_s=self._shutdown_delay_s)
            asyncio.get_running_loop().call_later(self._shutdown_delay_s, self._stop)
        elif not self.should_exit:
            self._drain.begin()
            self._stop()
        elif sig == signal.SIGINT:
            self.force_exit = True

    def _stop(self) -> None:
        if not self.should_exit:
            log.info("shutting down: finishing what is in flight")
            self.should_exit = True
