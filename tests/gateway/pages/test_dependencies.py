from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from sluice.gateway.pages import ping, v2_server
from sluice.gateway.pages.dependencies import set_parts
from sluice.inference.repository.scan import BrokenModel


def pages(*, ready: bool) -> FastAPI:
    app = FastAPI()
    app.include_router(v2_server.router)
    app.include_router(ping.router)
    parts: Any = SimpleNamespace(
        readiness=SimpleNamespace(ready=ready, faults=("a door is shut",)),
        catalogue=SimpleNamespace(
            broken=(BrokenModel("a", None, "no"), BrokenModel("b", 2, "no"), BrokenModel("b", 2, "nor so"))
        ),
    )
    set_parts(app, parts)
    return app


@pytest.mark.parametrize(("ready", "status", "word"), [(True, 200, "Healthy"), (False, 503, "Unhealthy")])
async def test_every_page_about_readiness_has_its_status_from_one_place(ready: bool, status: int, word: str) -> None:
    transport = httpx.ASGITransport(pages(ready=ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer, pong = await client.get("/v2/health/ready"), await client.get("/ping")
    assert (answer.status_code, pong.status_code) == (status, status)
    assert answer.json() == {"ready": ready, "broken": ["a", "b/2"]}
    assert pong.json() == {"status": word}
