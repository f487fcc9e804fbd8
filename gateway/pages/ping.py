"""`GET /ping`: whether predictions can be sent here, as TorchServe and SageMaker ask."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from sluice.gateway.pages.dependencies import ReadinessDependency
from sluice.gateway.pages.errors import Responses


class Ping(BaseModel):
    """How the server is."""

    status: str


UNHEALTHY: Responses = {503: {"model": Ping, "description": "Not ready"}}

router = APIRouter(tags=["health"])


@router.get("/ping", summary="Can predictions be sent here?", responses=UNHEALTHY)
async def ping(readiness: ReadinessDependency) -> Ping:
    return Ping(status="Healthy" if readiness.ready else "Unhealthy")
