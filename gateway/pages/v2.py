"""The routes that FastAPI serves: the Open Inference Protocol's server and model pages, and `/metrics`.

Prediction routes are not here: the data plane answers them before FastAPI sees them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from sluice.cache.cache import Cache
from sluice.gateway.dialects.v2.codec import model_metadata
from sluice.gateway.pages.admin import RedisPage, redis_page
from sluice.gateway.pages.model_config import ModelConfigPage, model_config_page
from sluice.gateway.pages.model_statistics import StatisticsPage, statistics_json, statistics_page
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.readiness import Readiness
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.errors import ModelNotReady

ModelName = Annotated[str, Path(description="A model's name", examples=["digits"])]
Version = Annotated[int, Path(description="A version's number", examples=[1])]


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


class ModelReady(BaseModel):
    """Whether one model answers predictions."""

    name: str
    ready: bool


class ModelSummary(BaseModel):
    """One model and its versions, lowest first."""

    name: str
    versions: list[str]
    ready: bool


class ModelList(BaseModel):
    """All models that are served, in alphabetical order."""

    models: list[ModelSummary]


class TensorMetadata(BaseModel):
    """One input or output. A size of -1 is an axis of any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """One version's inputs and outputs, in its own order."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Problem(BaseModel):
    """An error, in the protocol's form."""

    error: str


NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "Unknown model or version"}}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready"}}
NOT_LIVE: dict[int | str, dict[str, Any]] = {503: {"description": "Not alive: to be restarted"}}


def server_routes(
    catalogue: Catalogue, readiness: Readiness, metrics: Metrics, cache: Cache, version: str, extensions: list[str]
) -> APIRouter:
    """The routes about the server as a whole."""
    router = APIRouter()

    @router.get("/v2", tags=["server"], summary="Server metadata")
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(name="sluice", version=version, extensions=extensions)

    @router.get(
        "/v2/health/live",
        tags=["health"],
        summary="Is the process alive?",
        responses=NOT_LIVE,
        response_model_exclude_defaults=True,
    )
    async def live(response: Response) -> Live:
        stranded = catalogue.stranded(time.monotonic())
        response.status_code = 503 if stranded else 200
        return Live(live=not stranded, reason=_stranded_because(stranded))

    @router.get(
        "/v2/health/ready",
        tags=["health"],
        summary="Can predictions be sent here?",
        responses=NOT_READY,
        response_model_exclude_defaults=True,
    )
    async def ready(response: Response) -> Ready:
        is_ready = readiness.ready
        response.status_code = 200 if is_ready else 503
        return Ready(
            ready=is_ready, broken=list(dict.fromkeys(_named(each.name, each.version) for each in catalogue.broken))
        )

    @router.get("/v2/health", tags=["health"], summary="How is everything?", responses=NOT_READY)
    async def health(response: Response) -> HealthPage:
        is_ready = readiness.ready
        response.status_code = 200 if is_ready else 503
        state = cache.state()
        return HealthPage(
            live=not catalogue.stranded(time.monotonic()),
            ready=is_ready,
            models=[_version_health(served) for name in catalogue.models for served in catalogue.versions(name)],
            broken=[
                BrokenHealth(name=each.name, version=str(each.version or ""), reason=each.reason)
                for each in catalogue.broken
            ],
            doors=list(readiness.faults),
            cache=CacheHealth(entries=state.entries, bytes=state.size_bytes, redis=redis_page(state.redis)),
        )

    @router.get("/metrics", tags=["server"], summary="Prometheus metrics", response_class=Response)
    async def exposition(request: Request) -> Response:
        page = await metrics.pages.page(request.headers.get("accept", ""), request.scope["headers"])
        return Response(page.body, headers={name.decode(): value.decode() for name, value in page.headers})

    return router


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
    named = ", ".join(_named(each.name, each.version) for each in stranded)
    return f"no worker of {named} could be started for too long; the log says why"


def _named(model: str, version: int | None) -> str:
    return model if version is None else f"{model}/{version}"


def model_routes(catalogue: Catalogue) -> APIRouter:
    """The routes about models and their versions."""
    router = APIRouter(prefix="/v2/models", tags=["models"])

    def metadata(model: str, version: int | None) -> ModelMetadata:
        served = catalogue.resolve(model, version)
        versions = [served] if version is not None else catalogue.versions(model)
        return ModelMetadata.model_validate(
            model_metadata(model, [each.version for each in versions], served.signature)
        )

    def readiness(model: str, version: int | None, response: Response) -> ModelReady:
        try:
            is_ready = catalogue.resolve(model, version).ready
        except ModelNotReady:
            is_ready = False
        response.status_code = 200 if is_ready else 503
        return ModelReady(name=model, ready=is_ready)

    @router.get("", summary="Models that are served")
    async def models() -> ModelList:
        return ModelList(
            models=[
                ModelSummary(
                    name=name,
                    versions=[str(served.version) for served in catalogue.versions(name)],
                    ready=catalogue.resolve(name, None).ready,
                )
                for name in catalogue.models
            ]
        )

    @router.get("/stats", summary="What became of the calls of every version", response_model=StatisticsPage)
    async def all_stats() -> Response:
        versions = [served for name in catalogue.models for served in catalogue.versions(name)]
        return Response(await statistics_json(versions), media_type="application/json")

    @router.get("/{model}/stats", summary="What became of a model's calls", responses=NOT_FOUND)
    async def model_stats(model: ModelName) -> StatisticsPage:
        return statistics_page(catalogue.versions(model))

    @router.get("/{model}/versions/{version}/stats", summary="What became of a version's calls", responses=NOT_FOUND)
    async def version_stats(model: ModelName, version: Version) -> StatisticsPage:
        return statistics_page([catalogue.resolve(model, version)])

    @router.get("/{model}", summary="Metadata of a model's highest version", responses=NOT_FOUND)
    async def model_page(model: ModelName) -> ModelMetadata:
        return metadata(model, None)

    @router.get("/{model}/versions/{version}", summary="Metadata of one version", responses=NOT_FOUND)
    async def version_page(model: ModelName, version: Version) -> ModelMetadata:
        return metadata(model, version)

    @router.get("/{model}/config", summary="What is in force for a model's highest version", responses=NOT_FOUND)
    async def model_config(model: ModelName) -> ModelConfigPage:
        return model_config_page(catalogue.resolve(model, None))

    @router.get("/{model}/versions/{version}/config", summary="What is in force for one version", responses=NOT_FOUND)
    async def version_config(model: ModelName, version: Version) -> ModelConfigPage:
        return model_config_page(catalogue.resolve(model, version))

    @router.get("/{model}/ready", summary="Is the model ready?", responses=NOT_FOUND | NOT_READY)
    async def model_ready(model: ModelName, response: Response) -> ModelReady:
        return readiness(model, None, response)

    @router.get("/{model}/versions/{version}/ready", summary="Is the version ready?", responses=NOT_FOUND | NOT_READY)
    async def version_ready(model: ModelName, version: Version, response: Response) -> ModelReady:
        return readiness(model, version, response)

    return router
