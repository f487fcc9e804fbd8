"""The dependencies of routes: the parts of the gateway, read from the state of the application that serves the route.

All are `async`: FastAPI would run plain functions in a thread pool, which takes longer than most pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from fastapi import Depends, FastAPI, Request, Response

from sluice.cache.cache import Cache
from sluice.gateway.pages.parts import PageParts
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.repository_control import RepositoryControl
from sluice.gateway.settings.sections import TracingSettings
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.repository.scan import BrokenModel


class ReadinessNow(NamedTuple):
    """Whether predictions can be sent here at this moment, and what is wrong."""

    ready: bool
    door_faults: tuple[str, ...]
    """What is wrong with the listening ports, in plain words."""
    broken: tuple[BrokenModel, ...]
    """Models of the repository that cannot be served. The gateway can be ready all the same."""


def set_parts(app: FastAPI, parts: PageParts) -> None:
    """Give an application the parts that its routes depend on."""
    app.state.parts = parts


def _parts(request: Request) -> PageParts:
    parts: PageParts = request.app.state.parts
    return parts


async def page_parts(request: Request) -> PageParts:
    return _parts(request)


async def catalogue(request: Request) -> Catalogue:
    return _parts(request).catalogue


async def control(request: Request) -> RepositoryControl:
    return _parts(request).control


async def cache(request: Request) -> Cache:
    return _parts(request).cache


async def metrics(request: Request) -> Metrics:
    return _parts(request).metrics


async def tracing(request: Request) -> TracingSettings:
    return _parts(request).tracing


async def models_path(request: Request) -> Path:
    return _parts(request).models_path


async def readiness(request: Request, response: Response) -> ReadinessNow:
    """Whether predictions can be sent here. Sets the status of the answer: 200 if so, and 503 if not.

    The value has everything that pages show of readiness, since each dependency takes about 10 microseconds.
    """
    parts = _parts(request)
    ready = parts.readiness.ready
    response.status_code = 200 if ready else 503
    return ReadinessNow(ready, parts.readiness.faults, parts.catalogue.broken)


PartsDependency: TypeAlias = Annotated[PageParts, Depends(page_parts)]
CatalogueDependency: TypeAlias = Annotated[Catalogue, Depends(catalogue)]
ControlDependency: TypeAlias = Annotated[RepositoryControl, Depends(control)]
CacheDependency: TypeAlias = Annotated[Cache, Depends(cache)]
MetricsDependency: TypeAlias = Annotated[Metrics, Depends(metrics)]
TracingDependency: TypeAlias = Annotated[TracingSettings, Depends(tracing)]
ModelsPathDependency: TypeAlias = Annotated[Path, Depends(models_path)]
ReadinessDependency: TypeAlias = Annotated[ReadinessNow, Depends(readiness)]
