"""TorchServe's management API as a FastAPI application, for a port of its own."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response

from sluice.gateway.dialects.torchserve.codec import TorchServeFault, problem, refusal
from sluice.gateway.pages import ping, torchserve_models
from sluice.gateway.pages.dependencies import set_parts
from sluice.gateway.pages.errors import ErrorFormat, add_exception_handlers, error_response
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.pages.torchserve_models import AlreadyRegistered

_KINDS: Mapping[int, str] = {
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    500: "InternalServerException",
}
"""TorchServe's names of errors that do not come from a model, by status. All others are `BadRequestException`."""


def management_api(parts: PageParts) -> FastAPI:
    """FastAPI with the pages of TorchServe's management API. Its errors are in TorchServe's form."""
    app = FastAPI(title="Sluice: TorchServe's management API", version=parts.version, docs_url=None, redoc_url=None)
    set_parts(app, parts)
    add_exception_handlers(app, ErrorFormat(refusal, _problem_body))
    app.add_exception_handler(AlreadyRegistered, _already_registered)
    app.include_router(ping.router)
    app.include_router(torchserve_models.router)
    return app


async def _already_registered(request: Request, error: Exception) -> Response:
    return error_response(request, 409, str(error))


def _problem_body(status: int, message: str) -> bytes:
    return problem(TorchServeFault(status, _KINDS.get(status, "BadRequestException")), message)
