"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sluice.gateway.pages.dependencies import MetricsDependency

router = APIRouter(tags=["server"])


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def exposition(request: Request, metrics: MetricsDependency) -> Response:
    page = await metrics.pages.page(request.headers.get("accept", ""), request.scope["headers"])
    return Response(page.body, headers={name.decode(): value.decode() for name, value in page.headers})
