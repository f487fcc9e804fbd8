"""A port for those who manage models by TorchServe's management API, beside that of the callers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sluice.gateway.dialects.torchserve.codec import FAULTS, TorchServeFault, problem, refusal
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.no_predictions import NoPredictions
from sluice.gateway.pages.head_as_get import HeadAsGet
from sluice.gateway.pages.page_bodies import PageBodies
from sluice.gateway.pages.torchserve import ping_routes
from sluice.gateway.pages.torchserve_models import AlreadyRegistered, torchserve_model_routes
from sluice.gateway.process.accepting_server import AcceptingServer
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import InvalidRequest, SluiceError

if TYPE_CHECKING:
    from sluice.gateway.process.run import Gateway

CONFLICT = TorchServeFault(409, "ConflictStatusException")
MAX_CONNECTIONS = 64
HTTP_FAULTS: Mapping[int, str] = {404: "ResourceNotFoundException", 405: "MethodNotAllowedException"}


class ManagementDoor:
    """The management API on a bound socket. An async context manager: entered, it answers.

    Leaving waits `shutdown_timeout_s` for what is in flight, and ends the rest.
    """

    def __init__(self, gateway: Gateway, listener: socket.socket, tls: Mapping[str, Any], version: str) -> None:
        self._listener = listener
        settings = gateway.settings.server
        api = PageBodies(HeadAsGet(management_api(gateway, version)), gateway.held, refusal)
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


def management_api(gateway: Gateway, version: str) -> FastAPI:
    """The routes, with every error in TorchServe's form."""
    app = FastAPI(title="Sluice: TorchServe's management API", version=version, docs_url=None, redoc_url=None)
    app.include_router(ping_routes(gateway.readiness))
    app.include_router(torchserve_model_routes(gateway.catalogue, gateway.settings.models.path))

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
