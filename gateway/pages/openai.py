"""OpenAI's list of models: `GET /v1/models`.

`GET /v1/models/{model}` is in `tfs.py`, since TensorFlow Serving has a page at the same path.
"""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from sluice.gateway.pages.dependencies import CatalogueDependency

STARTED_AT = int(time.time())


class ModelCard(BaseModel):
    """One model, as OpenAI's API tells of it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(
        default_factory=lambda: STARTED_AT, description="When this gateway began to serve, in seconds since 1970."
    )
    owned_by: Literal["sluice"] = "sluice"


class ModelCards(BaseModel):
    """The models that this protocol's calls can name, in alphabetical order."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.get("/models", summary="Models that embed texts, as OpenAI's API lists them")
async def models(catalogue: CatalogueDependency) -> ModelCards:
    embedders = [name for name in catalogue.models if catalogue.resolve(name, None).callee.embedder is not None]
    return ModelCards(data=[ModelCard(id=name) for name in embedders])
