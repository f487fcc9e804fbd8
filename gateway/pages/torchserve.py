"""`GET /ping`: whether predictions can be sent here, as TorchServe and SageMaker ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from sluice.gateway.serving.readiness import Readiness


class Ping(BaseModel):
    """How the server is."""

    status: str


UNHEALTHY: dict[int | str, dict[str, Any]] = {503: {"model": Ping, "description": "Not ready"}}


def ping_routes(readiness: Readiness) -> APIRouter:
    """The one route."""
    router = APIRouter(tags=["health"])

    @router.get("/ping", summary="Can predictions be sent here?", responses=UNHEALTHY)
    async def ping(response: Response) -> Ping:
        is_ready = readiness.ready
        response.status_code = 200 if is_ready else 503
        return Ping(status="Healthy" if is_ready else "Unhealthy")

    return router
