"""HEAD on every page that there is, as monitors ask: what GET gives, less the body (RFC 9110, section 9.3.2)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from sluice.gateway.assembly import Gateway
from sluice.gateway.process.application import application
from sluice.gateway.settings.load import load_settings
from sluice.inference.repository.scan import scan
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving
from tests.integration.test_management_api import free_port

PLACES = {"model": "linear", "version": "1", "label": "nobody", "region": "frames"}
BESIDES = (
    "/docs",
    "/docs/",
    "/openapi.json",
    "/docs/static/swagger-ui.css",
    "/v2/",
    "/nowhere",
    "/v2/repository/index",
)
"""What the document of the routes does not name."""

OF_THE_CALL = frozenset({"date", "x-request-id"})
MOVING = re.compile(r"/metrics|.*/stats|/v2/health|/admin/cache|.*/config")
"""Pages whose numbers, and so lengths, are others the next time."""

Answer = tuple[int, Mapping[str, str], bytes]


def pages_of(document: dict[str, Any]) -> Sequence[str]:
    """Every page of the route table, its places filled."""
    return [path.format_map(PLACES) for path, methods in document["paths"].items() if "get" in methods]


def raw(url: str, method: str, path: str) -> Answer:
    """An answer to the last byte that the server sends for it."""
    host, port = httpx.URL(url).host, httpx.URL(url).port
    with socket.create_connection((host, port or 80), PATIENCE_S) as peer:
        peer.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        told = b"".join(iter(lambda: peer.recv(65536), b""))
    head, _, body = told.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    pairs = [header.split(": ", 1) for header in headers]
    return int(line.split()[1]), {name.lower(): value for name, value in pairs}, body


def compared(path: str, got: Answer, asked: Answer) -> None:
    assert asked[0] == got[0], path
    assert asked[2] == b"", path
    assert got[1]["content-length"] == str(len(got[2])), path
    left_out = OF_THE_CALL | ({"content-length"} if MOVING.fullmatch(path) else set())
    assert asked[1].keys() == got[1].keys(), path
    for name in got[1].keys() - left_out:
        assert asked[1][name] == got[1][name], (path, name)
    assert int(asked[1]["content-length"]) > 0 or got[2] == b"", path


def both(answer: Callable[[str, str], Answer], paths: Sequence[str]) -> None:
    for path in paths:
        compared(path, answer("GET", path), answer("HEAD", path))


@pytest.fixture(scope="module")
def managed() -> Iterator[tuple[SluiceProcess, str]]:
    port = free_port()
    with serving(EXAMPLES, "--management-port", port) as server:
        yield server, f"http://127.0.0.1:{port}"


def test_every_page_answers_head(managed: tuple[SluiceProcess, str]) -> None:
    server, _ = managed
    pages = pages_of(server.client.get("/openapi.json").json())
    assert {"/v2/health/live", "/ping", "/metrics", "/v1/models/linear", "/v2/models/linear/ready"} <= set(pages)
    both(lambda method, path: raw(server.url, method, path), [*pages, *BESIDES])


def test_every_page_of_the_management_port_answers_head(managed: tuple[SluiceProcess, str]) -> None:
    _, url = managed
    pages = pages_of(httpx.get(f"{url}/openapi.json").json())
    assert {"/ping", "/models", "/models/linear", "/models/linear/all", "/models/linear/1"} <= set(pages)
    both(lambda method, path: raw(url, method, path), [*pages, "/openapi.json", "/models/nobody", "/nowhere"])


def test_the_connection_goes_on_after_head(managed: tuple[SluiceProcess, str]) -> None:
    """A byte of a body would be taken for the beginning of the next answer."""
    server, _ = managed
    asked = b"HEAD /docs HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as peer:
        peer.sendall(asked + b"Connection: close\r\n\r\n")
        told = b"".join(iter(lambda: peer.recv(65536), b""))
    assert told.count(b"HTTP/1.1 200 OK") == 4
    assert told.endswith(b'\r\n\r\n{"live":true}')


def test_predictions_are_no_pages(managed: tuple[SluiceProcess, str]) -> None:
    server, _ = managed
    for path in ("/v2/models/linear/infer", "/v1/models/linear:predict", "/predictions/linear", "/invocations"):
        got, asked = raw(server.url, "GET", path), raw(server.url, "HEAD", path)
        assert (got[0], asked[0], asked[2]) == (405, 405, b"")
        assert asked[1]["allow"] == got[1]["allow"]


def test_a_refused_method_is_told_of_head(managed: tuple[SluiceProcess, str]) -> None:
    server, url = managed
    assert raw(server.url, "DELETE", "/v2/health/live")[1]["allow"] == "GET, HEAD"
    assert raw(server.url, "GET", "/v2/repository/index")[1]["allow"] == "POST"
    assert raw(url, "DELETE", "/ping")[1]["allow"] == "GET, HEAD"


async def test_every_page_answers_head_in_any_asgi_server() -> None:
    async with Gateway(load_settings({}, environ={}).settings, scan(EXAMPLES)) as gateway:
        app = application(gateway)

        async def answer(method: str, path: str) -> Answer:
            messages: list[Any] = []

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any) -> None:
                messages.append(message)

            scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1"}
            asked = {"method": method, "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""}
            await app({**scope, **asked, "headers": [(b"host", b"a")]}, receive, send)
            start, *bodies = messages
            headers = {name.decode(): value.decode() for name, value in start["headers"]}
            return start["status"], headers, b"".join([each.get("body", b"") for each in bodies])

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            pages = pages_of((await client.get("/openapi.json")).json())
        for path in [*pages, *BESIDES]:
            compared(path, await answer("GET", path), await answer("HEAD", path))
