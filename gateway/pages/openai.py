"""OpenAI's list of models: `GET /v1/models`.

`GET /v1/models/{model}` is TensorFlow Serving's page of a model's versions, which has the same path.
"""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.catalogue import Catalogue


class ModelCard(BaseModel):
    """One model that embeds texts."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this gateway began to serve, in seconds since 1970.")
    owned_by: Literal["sluice"] = "sluice"


class ModelCards(BaseModel):
    """The models that this protocol's calls can name, in alphabetical order."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def openai_routes(catalogue: Catalogue) -> APIRouter:
    """The list of models."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    created = int(time.time())

    @router.get("/models", summary="Models that embed texts, as OpenAI's API lists them")
    async def models() -> ModelCards:
        embedders = [name for name in catalogue.models if catalogue.resolve(name, None).callee.embedder is not None]
        return ModelCards(data=[ModelCard(id=name, created=created) for name in embedders])

    return router
