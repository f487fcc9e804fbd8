"""The same gateway as a plain ASGI application, without a socket and without uvicorn."""

from __future__ import annotations

import asyncio

import httpx

from sluice.gateway.assembly import Gateway
from sluice.gateway.process.application import application
from sluice.gateway.settings.load import load_settings
from sluice.inference.repository.scan import scan
from tests.integration.conftest import EXAMPLES
from tests.integration.server import v2


async def test_the_gateway_is_an_asgi_application() -> None:
    settings = load_settings({}, environ={}).settings
    async with Gateway(settings, scan(EXAMPLES)) as gateway:
        transport = httpx.ASGITransport(application(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            body = v2("x", [1, 1], [3])
            answers = await asyncio.gather(*[client.post("/v2/models/linear/infer", json=body) for _ in range(20)])
            assert [answer.json()["outputs"][0]["data"] for answer in answers] == [[5.0]] * 20
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            refused = await client.post("/v2/models/linear/infer", content=b"x" * (settings.server.max_body_bytes + 1))
            assert refused.status_code == 413
        gateway.drain.begin()
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            assert (await client.get("/v2/health/ready")).status_code == 503


async def test_it_enters_and_leaves_in_its_lifespan() -> None:
    gateway = Gateway(load_settings({}, environ={}).settings, scan(EXAMPLES))
    to_app: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    lifespan = asyncio.ensure_future(
        application(gateway)({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, to_app.get, from_app.put)  # type: ignore[arg-type]
    )
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    assert gateway.catalogue.ready
    await to_app.put({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await lifespan
    assert not gateway.catalogue.ready
