"""Bodies of any size, sent to pages that take none or a short one: refused, thrown away, and held by nobody."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest

from tests import models
from tests.gateway.http.servers import Answer, Client
from tests.integration.server import PATIENCE_S, SluiceProcess, serving
from tests.integration.test_management_api import free_port

MEBI = 1 << 20
SENT_PIECES = 200
PIECE = b"x" * MEBI
CHUNK = b"%x\r\n%b\r\n" % (MEBI, PIECE)

PAGES = [
    *(
        "POST /v2/repository/index",
        "POST /v2/repository/models/linear/load",
        "POST /v2/repository/models/linear/sample",
    ),
    *("POST /v2/logging", "POST /v2/trace/setting", "DELETE /admin/cache", "GET /admin/cache", "GET /v2/health/ready"),
    *("GET /metrics", "POST /ping", "PUT /no/such/page", "POST /v2/models/linear/ready", "GET http://a"),
    *("HEAD /v2", "GET /docs", "POST /v2/systemsharedmemory/unregister"),
]
MANAGEMENT_PAGES = [
    "POST /models?url=linear",
    "PUT /models/linear?min_worker=1",
    "GET /models",
    "DELETE /no",
    "GET /ping",
]


@pytest.fixture(scope="module", params=["false", "true"], ids=["no control", "control"])
def managed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SluiceProcess, int]]:
    repository = tmp_path_factory.mktemp("models")
    models.place(models.linear(), repository / "linear" / "1")
    settings = repository / "sluice.toml"
    settings.write_text(f"[server]\nmodel_control = {request.param}\nread_timeout_s = 1\n")
    port = free_port()
    with serving(repository, "--config", str(settings), "--management-port", port) as server:
        yield server, int(port)


def peak_bytes(server: SluiceProcess) -> int:
    """The most memory that the gateway ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def told(port: int, page: str, header: str, pieces: Iterable[bytes]) -> tuple[int, str, bytes]:
    """Send on until the server no longer listens; the status, the head and the body of what it said."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(f"{page} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode())
        with suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
        heard = b""
        # Who sends on for ever is cut off in the end, with or without a reset.
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                heard += part
    head, _, body = heard.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, head.decode().lower(), body


@pytest.mark.parametrize("header", [f"Content-Length: {SENT_PIECES * MEBI}", "Transfer-Encoding: chunked"])
def test_a_body_of_any_size_costs_nothing(managed: tuple[SluiceProcess, int], header: str) -> None:
    server, management_port = managed
    chunked = "chunked" in header
    before_bytes = peak_bytes(server)
    for port, pages in ((server.port, PAGES), (management_port, MANAGEMENT_PAGES)):
        for page in pages:
            status, _, _ = told(port, page, header, repeat(CHUNK if chunked else PIECE, SENT_PIECES))
            assert status < 500, page
            assert status in (0, 413) or chunked, (page, status)
    assert peak_bytes(server) - before_bytes < 64 * MEBI
    assert server.client.get("/v2/health/ready").status_code == 200


def asked(port: int, page: str, header: str, *pieces: bytes) -> Answer:
    """What is answered to this, with the connection left open."""
    with Client(("127.0.0.1", port)) as client:
        client.send(f"{page} HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n{header}\r\n\r\n".encode(), *pieces)
        return client.answer(page.partition(" ")[0])


def test_a_long_body_is_refused_at_once_in_the_words_of_the_page(managed: tuple[SluiceProcess, int]) -> None:
    """Whether the page would read it or not; the client has sent nothing of it yet."""
    server, management_port = managed
    for page in PAGES:
        answer = asked(server.port, page, f"Content-Length: {MEBI + 1}")
        assert (answer.status, answer.headers["connection"], answer.headers["x-request-id"]) == (413, "close", "mine")
        if not page.startswith("HEAD"):
            assert "limit of 1048576 bytes" in json.loads(answer.body)["error"]
    for page in MANAGEMENT_PAGES:
        answer = asked(management_port, page, f"Content-Length: {MEBI + 1}")
        assert (answer.status, json.loads(answer.body)["type"]) == (413, "BadRequestException")


def test_chunks_are_refused_as_soon_as_they_are_too_many(managed: tuple[SluiceProcess, int]) -> None:
    answer = asked(managed[0].port, "POST /v2/repository/index", "Transfer-Encoding: chunked", CHUNK, CHUNK)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert "limit of 1048576 bytes" in json.loads(answer.body)["error"]


def test_a_body_within_the_limit_is_read(managed: tuple[SluiceProcess, int]) -> None:
    body = b'{"log_info": true}'.ljust(MEBI)
    assert asked(managed[0].port, "POST /v2/logging", f"Content-Length: {MEBI}", body).status == 200


@pytest.mark.parametrize("which", [0, 1], ids=["callers", "management"])
def test_a_slow_sender_has_no_more_time_than_with_a_prediction(managed: tuple[SluiceProcess, int], which: int) -> None:
    server, management_port = managed
    port, page = ((server.port, "POST /v2/repository/index"), (management_port, "POST /models"))[which]

    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(f"{page} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode())
        client.settimeout(0.05)
        heard: list[bytes] = []
        with suppress(ConnectionError):
            while not heard or heard[-1]:
                client.sendall(b"x")
                with suppress(TimeoutError):
                    heard.append(client.recv(65536))
        # A page that reads nothing has answered at once; what comes after its answer is not awaited for ever either.
        assert heard[0].startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")[which])
