"""The way out: not ready at once, serve on for a while, finish what is in flight, exit with 0."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from gateway.telemetry.logs import log


class Drain:
    """Whether the gateway is on its way out. Begins once and never ends."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """From now on the gateway says that it is not ready, and asks its clients to connect elsewhere."""
        self.begun = True


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a way out that load balancers can follow.

    The first SIGTERM or SIGINT begins the drain: readiness is refused and answers carry `Connection: close`, while new
    connections and requests are still served for `shutdown_delay_s`, the time that load balancers need to notice.
    Then the server stops listening, finishes what is in flight within uvicorn's `timeout_graceful_shutdown`, and
    returns normally, where uvicorn would raise the signal again and make the exit status an error. A second signal
    ends the delay; one more SIGINT ends the wait for what is in flight.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Drain, shutdown_delay_s: float, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._drain = drain
        self._shutdown_delay_s = shutdown_delay_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell who waits for it."""
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while the server runs; nothing is raised again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._loop = asyncio.get_running_loop()
        former = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain, or hasten it."""
        if not self._drain.begun and self._shutdown_delay_s > 0 and self._loop is not None:
            self._drain.begin()
            self._loop.call_soon_threadsafe(self._serve_on)
        elif not self.should_exit:
            self._drain.begin()
            self.should_exit = True
        elif sig == signal.SIGINT:
            self.force_exit = True

    def _serve_on(self) -> None:
        log.info("shutting down: not ready, serving on", for_s=self._shutdown_delay_s)
        asyncio.get_running_loop().call_later(self._shutdown_delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
