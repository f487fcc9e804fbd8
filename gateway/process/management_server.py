"""The server of TorchServe's management API, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.dialects.torchserve.codec import refusal
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.no_predictions import NoPredictions
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.page_bodies import PageBodies
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.pages.torchserve_management import management_api
from sluice.gateway.process.accepting_server import AcceptingServer
from sluice.gateway.process.uvicorn_config import uvicorn_config
from sluice.gateway.serving.drain import Drain
from sluice.gateway.settings.sections import ServerSettings

MAX_CONNECTIONS = 64


class ManagementDoor:
    """The management API on a bound socket. An async context manager: entered, it answers.

    At most `MAX_CONNECTIONS` are open. Entering raises `StartError` if the socket cannot listen. Leaving waits
    `shutdown_timeout_s` for what is in flight, and ends the rest.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        settings: ServerSettings,
        wire: ConnectionLimits,
        pages: PageParts,
        drain: Drain,
        held: HeldBytes,
        budget: ConnectionBudget,
        doors: DoorWatch,
    ) -> None:
        protocol = make_lane(
            NoPredictions(),
            replace(wire, max_connections=MAX_CONNECTIONS),
            draining=lambda: drain.begun,
            held=held,
            budget=budget,
        )
        api = PageBodies(HeadAsGet(management_api(pages)), held, refusal)
        self._listener = listener
        self._listening = asyncio.Event()
        self._server = AcceptingServer(
            uvicorn_config(api, protocol, settings),
            "management",
            budget,
            doors,
            handshake_timeout_s=settings.read_timeout_s,
            on_started=self._listening.set,
        )

    async def __aenter__(self) -> ManagementDoor:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        listening = asyncio.create_task(self._listening.wait())
        try:
            await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.__aexit__()
            raise
        finally:
            listening.cancel()
        if self._serving.done():
            await self._serving  # raises what kept it from listening
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving
