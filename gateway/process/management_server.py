"""A port for those who manage models by TorchServe's management API, beside that of the callers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvicorn

from sluice.gateway.dialects.torchserve.codec import refusal
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.no_predictions import NoPredictions
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.page_bodies import PageBodies
from sluice.gateway.pages.torchserve_management import management_api
from sluice.gateway.process.accepting_server import AcceptingServer

if TYPE_CHECKING:
    from sluice.gateway.process.run import Gateway

MAX_CONNECTIONS = 64


class ManagementDoor:
    """The management API on a bound socket. An async context manager: entered, it answers.

    Leaving waits `shutdown_timeout_s` for what is in flight, and ends the rest.
    """

    def __init__(self, gateway: Gateway, listener: socket.socket, tls: Mapping[str, Any]) -> None:
        self._listener = listener
        settings = gateway.settings.server
        api = PageBodies(HeadAsGet(management_api(gateway.page_parts)), gateway.held, refusal)
        self._server = _Server(
            uvicorn.Config(
                api,
                http=make_lane(
                    NoPredictions(),
                    replace(gateway.wire_limits(), max_connections=MAX_CONNECTIONS),
                    draining=lambda: gateway.drain.begun,
                    held=gateway.held,
                    budget=gateway.budget,
                ),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                headers=[("server", "sluice")],
                timeout_keep_alive=settings.keep_alive_timeout_s,  # type: ignore[arg-type]  # any number will do
                timeout_graceful_shutdown=settings.shutdown_timeout_s,  # type: ignore[arg-type]  # any number will do
                **tls,
            ),
            "management",
            gateway.budget,
            gateway.doors,
            settings.read_timeout_s,
        )

    async def __aenter__(self) -> ManagementDoor:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        started = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving


class _Server(AcceptingServer):
    """uvicorn's server, which leaves signals to the main one, and tells when it listens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell who waits for it."""
        await super().startup(sockets)
        self.listening.set()

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        """Nothing: signals are for the main server, which ends this one."""
        return nullcontext()
