from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.gateway.headers.request_ids import RequestIds
from sluice.gateway.pages.middleware import RequestIdMiddleware, TrailingSlash


async def path_seen(request: Request) -> Response:
    return PlainTextResponse(request.url.path)


PAGES = Starlette(routes=[Route("/{path:path}", path_seen)])


@pytest.mark.parametrize(
    ("path", "seen"),
    [("/v2/models/", "/v2/models"), ("/v2/", "/v2"), ("/v2/models//", "/v2/models/"), ("/docs/", "/docs/"), ("/", "/")],
)
async def test_one_slash_is_taken_off_under_the_prefix(path: str, seen: str) -> None:
    transport = httpx.ASGITransport(TrailingSlash(PAGES, "/v2/"))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get(path)).text == seen


async def test_every_answer_has_the_callers_id_or_a_new_one() -> None:
    transport = httpx.ASGITransport(RequestIdMiddleware(PAGES, RequestIds()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        told = await client.get("/", headers={"x-request-id": "mine"})
        made = [(await client.get("/")).headers["x-request-id"] for _ in range(2)]
    assert told.headers["x-request-id"] == "mine"
    assert len({*made, "mine"}) == 3
