"""Answers to clients that ask for shared memory, which is not served: there are no regions, and none can be registered.

The pages follow Triton Inference Server's shared-memory extension (`extension_shared_memory.md` of its protocol). Its
clients list regions and unregister all of them when they start, even if they do not use any. Both is answered.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path

from sluice.gateway.dialects.v2.shared_memory import no_region, not_served
from sluice.gateway.pages.errors import problem

Region: TypeAlias = Annotated[str, Path(description="A region's name", examples=["input_data"])]


_REFUSED = problem(400, "Shared memory is not served")
_NO_REGION = problem(404, "There are no regions")

system = APIRouter(prefix="/v2/systemsharedmemory", tags=["server"])
cuda = APIRouter(prefix="/v2/cudasharedmemory", tags=["server"])
"""Two routers for the two kinds of shared memory: their routes are the same."""


@system.get("/status", summary="No regions", operation_id="system_regions")
@cuda.get("/status", summary="No regions", operation_id="cuda_regions")
async def regions() -> list[dict[str, Any]]:
    return []


@system.get(
    "/region/{region}/status",
    summary="There is no such region",
    operation_id="system_region",
    responses=_NO_REGION,
)
async def system_region(region: Region) -> list[dict[str, Any]]:
    raise no_region("system", region)


@cuda.get(
    "/region/{region}/status", summary="There is no such region", operation_id="cuda_region", responses=_NO_REGION
)
async def cuda_region(region: Region) -> list[dict[str, Any]]:
    raise no_region("cuda", region)


@system.post(
    "/region/{region}/register",
    summary="Refused: shared memory is not served",
    operation_id="register_system_region",
    responses=_REFUSED,
)
async def register_system_region(region: Region) -> dict[str, Any]:
    raise not_served("system", region)


@cuda.post(
    "/region/{region}/register",
    summary="Refused: shared memory is not served",
    operation_id="register_cuda_region",
    responses=_REFUSED,
)
async def register_cuda_region(region: Region) -> dict[str, Any]:
    raise not_served("cuda", region)


@system.post("/unregister", summary="Does nothing", operation_id="unregister_system_regions")
@cuda.post("/unregister", summary="Does nothing", operation_id="unregister_cuda_regions")
async def unregister_all() -> dict[str, Any]:
    return {}


@system.post("/region/{region}/unregister", summary="Does nothing", operation_id="unregister_system_region")
@cuda.post("/region/{region}/unregister", summary="Does nothing", operation_id="unregister_cuda_region")
async def unregister(region: Region) -> dict[str, Any]:
    return {}
