"""The Open Inference Protocol's pages about the server: what it is, whether it lives, and whether it is ready."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sluice.gateway.pages.admin import RedisPage, redis_page
from sluice.gateway.pages.dependencies import (
    CacheDependency,
    CatalogueDependency,
    PartsDependency,
    ReadinessDependency,
)
from sluice.gateway.pages.errors import Responses
from sluice.gateway.serving.model import ServedModel


class ServerMetadata(BaseModel):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process answers, and can mend itself. `reason` says why it had better be restarted."""

    live: bool
    reason: str | None = None


class Ready(BaseModel):
    """Whether predictions can be sent here. `broken` are models of the repository that cannot be served."""

    ready: bool
    broken: list[str] = []


class VersionHealth(BaseModel):
    """One model version, how many of its workers live, and whether its requests share batches."""

    name: str
    version: str
    ready: bool
    workers_alive: int
    batched: bool = Field(description="Whether requests travel together.")
    unbatched_because: str | None = Field(description="Why not, if they do not.")


class BrokenHealth(BaseModel):
    """A version, or a whole model, that cannot be served, and why."""

    name: str
    version: str = Field(description="Empty where it is the whole model.")
    reason: str


class CacheHealth(BaseModel):
    """The cache. Whatever it says, predictions do not depend on it."""

    entries: int
    bytes: int
    redis: RedisPage | None


class HealthPage(BaseModel):
    """Everything that may be unwell."""

    live: bool
    ready: bool
    models: list[VersionHealth]
    broken: list[BrokenHealth]
    doors: list[str] = Field(description="What is wrong with the doors; nothing, most of the time.")
    cache: CacheHealth


NOT_READY: Responses = {503: {"description": "Not ready"}}
NOT_LIVE: Responses = {503: {"description": "Not alive: to be restarted"}}

router = APIRouter(prefix="/v2")


@router.get("", tags=["server"], summary="Server metadata")
async def server_metadata(parts: PartsDependency) -> ServerMetadata:
    return ServerMetadata(name="sluice", version=parts.version, extensions=list(parts.extensions))


@router.get(
    "/health/live",
    tags=["health"],
    summary="Is the process alive?",
    responses=NOT_LIVE,
    response_model_exclude_defaults=True,
)
async def live(catalogue: CatalogueDependency, response: Response) -> Live:
    stranded = catalogue.stranded(time.monotonic())
    response.status_code = 503 if stranded else 200
    return Live(live=not stranded, reason=_stranded_because(stranded))


@router.get(
    "/health/ready",
    tags=["health"],
    summary="Can predictions be sent here?",
    responses=NOT_READY,
    response_model_exclude_defaults=True,
)
async def ready(readiness: ReadinessDependency) -> Ready:
    broken = dict.fromkeys(_full_name(each.name, each.version) for each in readiness.broken)
    return Ready(ready=readiness.ready, broken=list(broken))


@router.get("/health", tags=["health"], summary="How is everything?", responses=NOT_READY)
async def health(readiness: ReadinessDependency, catalogue: CatalogueDependency, cache: CacheDependency) -> HealthPage:
    state = cache.state()
    return HealthPage(
        live=not catalogue.stranded(time.monotonic()),
        ready=readiness.ready,
        models=[_version_health(served) for name in catalogue.models for served in catalogue.versions(name)],
        broken=[
            BrokenHealth(name=each.name, version=str(each.version or ""), reason=each.reason)
            for each in readiness.broken
        ],
        doors=list(readiness.door_faults),
        cache=CacheHealth(entries=state.entries, bytes=state.size_bytes, redis=redis_page(state.redis)),
    )


def _version_health(served: ServedModel) -> VersionHealth:
    health = served.health()
    return VersionHealth(
        name=served.name,
        version=str(served.version),
        ready=served.ready,
        workers_alive=health.workers_alive,
        batched=health.batched,
        unbatched_because=health.unbatched_because,
    )


def _stranded_because(stranded: Sequence[ServedModel]) -> str | None:
    if not stranded:
        return None
    names = ", ".join(_full_name(each.name, each.version) for each in stranded)
    return f"no worker of {names} could be started for too long; the log says why"


def _full_name(model: str, version: int | None) -> str:
    return model if version is None else f"{model}/{version}"
