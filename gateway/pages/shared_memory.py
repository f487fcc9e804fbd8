"""Shared memory as Triton's clients ask for it: there are no regions, and there will be none.

Triton Inference Server's shared-memory extension (`extension_shared_memory.md` of its protocol). Clients unregister
everything before they begin, whether they go on to use shared memory or not, and ask what there is; both is answered.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel

from sluice.gateway.dialects.v2.shared_memory import Kind, no_region, not_served

Region = Annotated[str, Path(description="A region's name", examples=["input_data"])]


class Problem(BaseModel):
    """An error, in the protocol's form."""

    error: str


_REFUSED: dict[int | str, dict[str, Any]] = {400: {"model": Problem, "description": "Shared memory is not served"}}
_NO_REGION: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There are no regions"}}


def shared_memory_routes() -> APIRouter:
    """The routes about both kinds of shared memory."""
    router = APIRouter(prefix="/v2", tags=["server"])
    _add(router, "system")
    _add(router, "cuda")
    return router


def _add(router: APIRouter, kind: Kind) -> None:
    prefix = f"/{kind}sharedmemory"

    @router.get(f"{prefix}/status", summary="No regions", operation_id=f"{kind}_regions")
    async def regions() -> list[dict[str, Any]]:
        return []

    @router.get(
        f"{prefix}/region/{{region}}/status",
        summary="There is no such region",
        operation_id=f"{kind}_region",
        responses=_NO_REGION,
    )
    async def one_region(region: Region) -> list[dict[str, Any]]:
        raise no_region(kind, region)

    @router.post(
        f"{prefix}/region/{{region}}/register",
        summary="Refused: shared memory is not served",
        operation_id=f"register_{kind}_region",
        responses=_REFUSED,
    )
    async def register(region: Region) -> dict[str, Any]:
        raise not_served(kind, region)

    @router.post(f"{prefix}/unregister", summary="Does nothing", operation_id=f"unregister_{kind}_regions")
    async def unregister_all() -> dict[str, Any]:
        return {}

    @router.post(
        f"{prefix}/region/{{region}}/unregister", summary="Does nothing", operation_id=f"unregister_{kind}_region"
    )
    async def unregister(region: Region) -> dict[str, Any]:
        return {}
