"""Behind a proxy that serves us under a prefix and takes it off: a real server, a real proxy, links as browsers do."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin

import httpx
import pytest

from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SluiceProcess, serving

PREFIX = "/ml/sluice"
TOLD: Mapping[str, str] = {"X-Forwarded-Prefix": PREFIX}


@contextmanager
def proxy(target: str, more: Mapping[str, str]) -> Iterator[str]:
    """The address of a proxy whose only path is the prefix; it passes on what is below, with more headers."""

    class Passing(http.server.BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404, "not mine")
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {**dict(self.headers.items()), **more}
            path = self.path.removeprefix(PREFIX)
            with httpx.stream(self.command, target + path, content=body, headers=headers, timeout=PATIENCE_S) as answer:
                content = b"".join(answer.iter_raw())
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_HEAD = pass_on  # noqa: N815 - the class's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Passing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def links(page: httpx.Response) -> list[str]:
    """Where a browser finds what the page names."""
    found = re.findall(r"(?:href|src)=\"([^\"]+)\"|url: '([^']+)'", page.text)
    return [urljoin(str(page.url), one or other) for one, other in found]


@pytest.fixture(scope="module")
def configured() -> Iterator[SluiceProcess]:
    with serving(EXAMPLES, env={"SLUICE_SERVER_ROOT_PATH": f"{PREFIX}/"}) as server:
        yield server


@pytest.mark.parametrize("headers", [{}, TOLD], ids=["the proxy says nothing", "the proxy says its prefix"])
@pytest.mark.parametrize("page", ["/docs", "/docs/"])
def test_the_api_page_finds_its_files(examples: SluiceProcess, headers: Mapping[str, str], page: str) -> None:
    with proxy(examples.url, headers) as front, httpx.Client(timeout=PATIENCE_S, follow_redirects=True) as client:
        docs = client.get(f"{front}{PREFIX}{page}")
        assert str(docs.url) == f"{front}{PREFIX}/docs"
        found = links(docs)
        assert len(found) == 4
        kinds = [client.get(each).raise_for_status().headers["content-type"].partition(";")[0] for each in found]
        assert kinds[0] == "text/css"
        assert kinds[-1] == "application/json"


def test_calls_from_the_api_page_go_to_the_prefix(examples: SluiceProcess, configured: SluiceProcess) -> None:
    """By the header or by the setting. Without either, the document says nothing of servers, as at the root."""
    for server, headers, servers in (
        (examples, {}, None),
        (examples, TOLD, [{"url": PREFIX}]),
        (configured, {}, [{"url": PREFIX}]),
        (configured, {"X-Forwarded-Prefix": "/other"}, [{"url": PREFIX}]),
    ):
        with proxy(server.url, headers) as front:
            document = httpx.get(f"{front}{PREFIX}/openapi.json", timeout=PATIENCE_S)
            assert document.json().get("servers") == servers
            assert document.headers["vary"] == "x-forwarded-prefix"
            if servers:
                called = httpx.get(urljoin(front, servers[0]["url"] + "/v2/health/live"), timeout=PATIENCE_S)
                assert called.json() == {"live": True}


def test_redirects_stay_under_the_prefix(examples: SluiceProcess, configured: SluiceProcess) -> None:
    for server, headers in ((examples, TOLD), (configured, {})):
        with proxy(server.url, headers) as front:
            moved = httpx.get(f"{front}{PREFIX}/metrics/", timeout=PATIENCE_S, follow_redirects=True)
            assert (moved.status_code, moved.url.path) == (200, f"{PREFIX}/metrics")


def test_pages_and_predictions_are_as_at_the_root(examples: SluiceProcess, configured: SluiceProcess) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}
    for server, headers in ((examples, {}), (examples, TOLD), (configured, {})):
        with proxy(server.url, headers) as front, httpx.Client(base_url=front + PREFIX, timeout=PATIENCE_S) as client:
            assert client.get("/v2/models/linear/").json()["name"] == "linear"
            assert client.get("/v2/models/nobody").status_code == 404
            assert client.head("/v2/health/ready").status_code == 200
            assert client.post("/v2/models/linear/infer", json=body).json()["outputs"][0]["data"] == [5.0]


@pytest.mark.parametrize(
    "told", ["//evil.example", "https://evil.example", "/../x", "/a\\b", '/"><script>alert(1)</script>', "/a?b", "x"]
)
def test_a_header_that_is_no_plain_path_is_not_repeated(examples: SluiceProcess, told: str) -> None:
    headers = {"X-Forwarded-Prefix": told}
    document = examples.client.get("/openapi.json", headers=headers)
    assert "servers" not in document.json()
    assert examples.client.get("/docs", headers=headers).text == examples.client.get("/docs").text
    moved = examples.client.get("/metrics/", headers=headers)
    assert (moved.status_code, moved.headers["location"]) == (307, f"{examples.url}/metrics")
