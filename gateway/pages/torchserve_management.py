"""TorchServe's management API as a FastAPI application."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sluice.gateway.dialects.torchserve.codec import FAULTS, TorchServeFault, problem, refusal
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.pages.torchserve import ping_routes
from sluice.gateway.pages.torchserve_models import AlreadyRegistered, torchserve_model_routes
from sluice.gateway.telemetry.logs import log
from sluice.inference.errors import InvalidRequest, SluiceError

CONFLICT = TorchServeFault(409, "ConflictStatusException")
HTTP_FAULTS: Mapping[int, str] = {404: "ResourceNotFoundException", 405: "MethodNotAllowedException"}


def management_api(parts: PageParts) -> FastAPI:
    """The routes, with every error in TorchServe's form."""
    app = FastAPI(title="Sluice: TorchServe's management API", version=parts.version, docs_url=None, redoc_url=None)
    app.include_router(ping_routes(parts.readiness))
    app.include_router(torchserve_model_routes(parts.catalogue, parts.models_path))

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
