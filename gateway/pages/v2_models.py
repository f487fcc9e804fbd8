"""The Open Inference Protocol's pages about models and their versions.

Prediction routes are not here: the data plane answers them before FastAPI sees them.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from sluice.gateway.dialects.v2.codec import model_metadata
from sluice.gateway.pages.dependencies import CatalogueDependency
from sluice.gateway.pages.errors import problem
from sluice.gateway.pages.parameters import ModelName, VersionNumber
from sluice.gateway.pages.v2_server import NOT_READY
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model_config_page import ModelConfigPage, model_config_page
from sluice.gateway.serving.model_statistics_page import StatisticsPage, statistics_json, statistics_page
from sluice.inference.errors import ModelNotReady


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


NOT_FOUND = problem(404, "Unknown model or version")

router = APIRouter(prefix="/v2/models", tags=["models"])


@router.get("", summary="Models that are served")
async def models(catalogue: CatalogueDependency) -> ModelList:
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
async def all_stats(catalogue: CatalogueDependency) -> Response:
    versions = [served for name in catalogue.models for served in catalogue.versions(name)]
    return Response(await statistics_json(versions), media_type="application/json")


@router.get("/{model}/stats", summary="What became of a model's calls", responses=NOT_FOUND)
async def model_stats(model: ModelName, catalogue: CatalogueDependency) -> StatisticsPage:
    return statistics_page(catalogue.versions(model))


@router.get("/{model}/versions/{version}/stats", summary="What became of a version's calls", responses=NOT_FOUND)
async def version_stats(model: ModelName, version: VersionNumber, catalogue: CatalogueDependency) -> StatisticsPage:
    return statistics_page([catalogue.resolve(model, version)])


@router.get("/{model}", summary="Metadata of a model's highest version", responses=NOT_FOUND)
async def model_page(model: ModelName, catalogue: CatalogueDependency) -> ModelMetadata:
    return _metadata(catalogue, model, None)


@router.get("/{model}/versions/{version}", summary="Metadata of one version", responses=NOT_FOUND)
async def version_page(model: ModelName, version: VersionNumber, catalogue: CatalogueDependency) -> ModelMetadata:
    return _metadata(catalogue, model, version)


@router.get("/{model}/config", summary="What is in force for a model's highest version", responses=NOT_FOUND)
async def model_config(model: ModelName, catalogue: CatalogueDependency) -> ModelConfigPage:
    return model_config_page(catalogue.resolve(model, None))


@router.get("/{model}/versions/{version}/config", summary="What is in force for one version", responses=NOT_FOUND)
async def version_config(model: ModelName, version: VersionNumber, catalogue: CatalogueDependency) -> ModelConfigPage:
    return model_config_page(catalogue.resolve(model, version))


@router.get("/{model}/ready", summary="Is the model ready?", responses=NOT_FOUND | NOT_READY)
async def model_ready(model: ModelName, catalogue: CatalogueDependency, response: Response) -> ModelReady:
    return _readiness(catalogue, model, None, response)


@router.get("/{model}/versions/{version}/ready", summary="Is the version ready?", responses=NOT_FOUND | NOT_READY)
async def version_ready(
    model: ModelName, version: VersionNumber, catalogue: CatalogueDependency, response: Response
) -> ModelReady:
    return _readiness(catalogue, model, version, response)


def _metadata(catalogue: Catalogue, model: str, version: int | None) -> ModelMetadata:
    served = catalogue.resolve(model, version)
    versions = [served] if version is not None else catalogue.versions(model)
    numbers = [each.version for each in versions]
    return ModelMetadata.model_validate(model_metadata(model, served.engine.platform, numbers, served.signature))


def _readiness(catalogue: Catalogue, model: str, version: int | None, response: Response) -> ModelReady:
    try:
        is_ready = catalogue.resolve(model, version).ready
    except ModelNotReady:
        is_ready = False
    response.status_code = 200 if is_ready else 503
    return ModelReady(name=model, ready=is_ready)
