"""The model repository for clients of the Open Inference Protocol: index, load and unload.

The pages follow Triton Inference Server's model repository extension (`extension_model_repository.md` of its protocol).
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from sluice.gateway.pages.any_content_type import AnyContentType
from sluice.gateway.pages.dependencies import ControlDependency
from sluice.gateway.pages.errors import problem
from sluice.gateway.pages.parameters import ModelName


class IndexQuery(BaseModel):
    """What of the index is wanted."""

    ready: bool = Field(False, description="Only versions that answer predictions.")


class IndexLine(BaseModel):
    """A version in service or on its way, or a model without one."""

    name: str
    version: str = Field("", description="Empty for a model that is not served.")
    state: str
    reason: str = ""


class RepositoryChange(BaseModel):
    """What Triton's clients send with a change. Parameters of a load are refused, those of an unload ignored."""

    parameters: dict[str, Any] = {}


ChangeBody: TypeAlias = Annotated[RepositoryChange | None, Body()]


class SampleWanted(BaseModel):
    """A sample that is going to be recorded."""

    file: str = Field(description="Where the next valid request's inputs are going to lie.")


FORBIDDEN = problem(403, "server.model_control does not let clients see or change the repository")
REFUSED = FORBIDDEN | problem(400, "The model cannot be loaded; the error says why") | problem(404, "Unknown model")

router = APIRouter(prefix="/v2/repository", tags=["repository"], route_class=AnyContentType)


@router.post("/index", summary="Every model of the repository", responses=FORBIDDEN)
async def index(control: ControlDependency, query: Annotated[IndexQuery | None, Body()] = None) -> list[IndexLine]:
    only_ready = query is not None and query.ready
    return [
        IndexLine(
            name=each.name,
            version="" if each.version is None else str(each.version),
            state=each.state,
            reason=each.reason,
        )
        for each in await control.index(only_ready=only_ready)
    ]


@router.post("/models/{model}/load", summary="Serve a model as it lies in the repository now", responses=REFUSED)
async def load(model: ModelName, control: ControlDependency, change: ChangeBody = None) -> dict[str, Any]:
    await control.load(model, {} if change is None else change.parameters)
    return {}


@router.post("/models/{model}/unload", summary="Serve a model no more", responses=REFUSED)
async def unload(model: ModelName, control: ControlDependency, _: ChangeBody = None) -> dict[str, Any]:
    await control.unload(model)
    return {}


@router.post(
    "/models/{model}/sample",
    summary="Write the inputs of the next valid request beside the model, as the sample that it is tried with",
    responses=REFUSED,
)
async def record_sample(model: ModelName, control: ControlDependency) -> SampleWanted:
    return SampleWanted(file=str(control.record_sample(model)))
