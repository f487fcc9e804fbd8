from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sluice.gateway.messages import Header
from sluice.gateway.pages.head_as_get import HeadAsGet

Message = MutableMapping[str, Any]


async def hello(_: object) -> Response:
    return PlainTextResponse("hello", headers={"x-more": "1"})


async def stream(_: object) -> Response:
    return StreamingResponse(iter([b"a", b"bc", b""]), media_type="text/plain")


async def file(_: object) -> Response:
    return FileResponse(Path(__file__))


async def nothing(_: object) -> Response:
    return Response(status_code=204)


SIZE_BYTES = Path(__file__).stat().st_size
ROUTES = [
    Route("/hello", hello, methods=["GET"]),
    Route("/stream", stream, methods=["GET"]),
    Route("/file", file, methods=["GET"]),
    Route("/nothing", nothing, methods=["GET"]),
    Route("/made", hello, methods=["POST"]),
]
for route in ROUTES:
    assert route.methods is not None
    route.methods.discard("HEAD")  # as FastAPI's routes have it
APP = HeadAsGet(Starlette(routes=ROUTES))


async def told(method: str, path: str, headers: Sequence[Header] = (), **scope: Any) -> tuple[int, list[Header], bytes]:
    """Status, headers and body of an answer; it has ended exactly once."""
    messages: list[Message] = []
    received: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not received:
            await asyncio.get_running_loop().create_future()
        return received.pop()

    async def send(message: Message) -> None:
        messages.append(message)

    asked = {"type": "http", "method": method, "path": path, "headers": list(headers), "query_string": b"", **scope}
    await APP(asked, receive, send)
    start, *bodies = messages
    assert [each["type"] for each in bodies] == ["http.response.body"] * len(bodies)
    assert [each.get("more_body", False) for each in bodies] == [True] * (len(bodies) - 1) + [False]
    return start["status"], start["headers"], b"".join([each["body"] for each in bodies])


@pytest.mark.parametrize("path", ["/hello", "/stream", "/file", "/nothing", "/nowhere", "/made"])
async def test_head_has_the_status_and_headers_of_get_and_no_body(path: str) -> None:
    status, headers, body = await told("GET", path)
    assert await told("HEAD", path) == (status, headers, b"")
    assert body or status == 204


async def test_a_server_is_not_asked_to_send_the_file_by_itself() -> None:
    """Which it may do whatever the method was."""
    status, headers, body = await told("HEAD", "/file", extensions={"http.response.pathsend": {}})
    assert (status, body) == (200, b"")
    assert dict(headers)[b"content-length"] == b"%d" % SIZE_BYTES


async def test_head_knows_no_ranges() -> None:
    assert (await told("GET", "/file", [(b"range", b"bytes=0-4")]))[0] == 206
    assert (await told("HEAD", "/file", [(b"range", b"bytes=0-4")]))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/hello", b"GET, HEAD"), ("HEAD", "/made", b"POST"), ("GET", "/made", b"POST"), ("PUT", "/made", b"POST")],
)
async def test_a_refusal_allows_head_where_it_allows_get(method: str, path: str, allowed: bytes) -> None:
    status, headers, _ = await told(method, path)
    assert (status, dict(headers)[b"allow"]) == (405, allowed)


async def test_what_is_not_http_passes() -> None:
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)

    async def never() -> Message:
        raise AssertionError

    async def nowhere(message: Message) -> None:
        raise AssertionError(message)

    await HeadAsGet(app)({"type": "lifespan"}, never, nowhere)
    assert passed == [{"type": "lifespan"}]
