"""The server of TorchServe's management API, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import LaneLimits
from sluice.gateway.dialects.torchserve.codec import FAULTS, TorchServeFault, problem, refusal
from sluice.gateway.doors.door_watch import DoorWatch
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.no_predictions import NoPredictions
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.page_bodies import PageBodies
from sluice.gateway.pages.torchserve import ping_routes
from sluice.gateway.pages.torchserve_models import AlreadyRegistered, torchserve_model_routes
from sluice.gateway.process.accepting_server import AcceptingServer
from sluice.gateway.process.uvicorn_config import uvicorn_config
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.drain import Drain
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.settings.sections import ServerSettings
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import InvalidRequest, SluiceError

CONFLICT = TorchServeFault(409, "ConflictStatusException")
MAX_CONNECTIONS = 64
HTTP_FAULTS: Mapping[int, str] = {404: "ResourceNotFoundException", 405: "MethodNotAllowedException"}


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
        wire: LaneLimits,
        version: str,
        catalogue: Catalogue,
        readiness: Readiness,
        models: Path,
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
        api = PageBodies(HeadAsGet(management_api(catalogue, readiness, models, version)), held, refusal)
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


def management_api(catalogue: Catalogue, readiness: Readiness, models: Path, version: str) -> FastAPI:
    """The routes, with every error in TorchServe's form."""
    app = FastAPI(title="Sluice: TorchServe's management API", version=version, docs_url=None, redoc_url=None)
    app.include_router(ping_routes(readiness))
    app.include_router(torchserve_model_routes(catalogue, models))

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, SluiceError)
        if isinstance(error, AlreadyRegistered):
            return _told(CONFLICT, str(error))
        refused = refusal(error)
        return Response(refused.body, refused.status, {k.decode(): v.decode() for k, v in refused.headers})

    def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = HTTP_FAULTS.get(error.status_code, "BadRequestException")
        return _told(TorchServeFault(error.status_code, kind), str(error.detail), dict(error.headers or {}))

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return _told(FAULTS[InvalidRequest], faults)

    def unknown(_: Request, error: Exception) -> Response:
        log.error("a management route failed", exc_info=error)
        return _told(FAULTS[SluiceError], "internal error")

    app.add_exception_handler(SluiceError, refuse)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unknown)
    return app


def _told(fault: TorchServeFault, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(problem(fault, message), fault.status, headers, media_type="application/json")
