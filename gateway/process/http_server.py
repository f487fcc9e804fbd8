"""The way out: not ready at once, serve on for a while, finish what is in flight, exit with 0."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import uvicorn

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.process.accepting_server import AcceptingServer
from sluice.gateway.serving.drain import Drain
from sluice.gateway.telemetry.logs import log

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DrainingServer(AcceptingServer):
    """uvicorn's server with a way out that load balancers can follow.

    The first signal begins the drain: readiness is refused and answers carry `Connection: close`, while new connections
    and requests are still served for `shutdown_delay_s`, the time that load balancers need to notice. Then the server
    stops listening and finishes what is in flight within uvicorn's `timeout_graceful_shutdown`. A second signal ends
    the delay; one more SIGINT ends the wait for what is in flight.

    `on_started` is called once connections are accepted. `beside` is what stops at the same time, within that time by
    itself. Signals come from `StopSignals`, not from uvicorn.
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
        super().__init__(config, "http", budget, doors, handshake_timeout_s)
        self._on_started = on_started
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell who waits for it."""
        await super().startup(sockets)
        self._on_started()

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        """Nothing: uvicorn would raise the signals again at the end, and make the exit status an error."""
        return nullcontext()

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


class StopSignals:
    """Hands SIGTERM and SIGINT to whoever knows at the moment what to do; with nobody there, nothing happens."""

    def __init__(self) -> None:
        self._handler: Callable[[int], None] = lambda number: None

    @contextmanager
    def handled_by(self, handler: Callable[[int], None]) -> Iterator[None]:
        """While the block runs, the signals are for `handler`; it runs in the event loop's thread."""
        former, self._handler = self._handler, handler
        try:
            yield
        finally:
            self._handler = former

    @contextmanager
    def caught(self) -> Iterator[None]:
        """From here to the end of the block, no such signal ends the process by itself. Main thread only."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        self._handler(number)
