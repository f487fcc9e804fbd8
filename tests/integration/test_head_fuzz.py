"""Odd request heads by the hundred, to every page and prediction: none is a fault of ours."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gateway.http.servers import Client
from tests.integration.conftest import EXAMPLES
from tests.integration.server import SluiceProcess, serving
from tests.integration.test_management_api import free_port

REQUESTS = 600
"""To each of the two ports. `make test-hostile` sends many more."""

METHODS = (
    *("GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND"),
    *("M-SEARCH", "PURGE", "BREW", "get", "SOURCE", "GETGET", "MKCOL", "UNLINK"),
)
PAGES = (
    *("/", "/v2", "/v2/", "/v2/health/ready", "/v2/health", "/metrics", "/v2/models", "/v2/models/digits/stats"),
    *("/v2/models/digits", "/v2/models/digits/versions/1/ready", "/v2/models/digits/config", "/v2/repository/index"),
    *("/v2/repository/models/digits/load", "/v2/logging", "/v2/trace/setting", "/v2/models/digits/trace/setting"),
    *("/admin/cache", "/admin/cache/digits", "/docs", "/docs/", "/docs/static/swagger-ui.css", "/openapi.json"),
    *("/v1/models", "/v1/models/digits", "/v1/models/digits/versions/1/metadata", "/v1/models/digits/labels/a"),
    *("/ping", "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/a/register", "/models", "/models/linear"),
    *("/v2/models/digits/infer", "/v1/models/digits:predict", "/predictions/digits", "/invocations", "/v1/embeddings"),
    *(
        "/models/digits/1/set-default",
        "/models/digits/invoke",
        "/v2/models/stats",
        "/v2/models/linear/versions/1/infer",
    ),
)
WHOLE = (
    *(
        "http://a",
        "http://a/",
        "http://",
        "http:///",
        "HTTP://a:80/v2",
        "http://a?b",
        "http://a#b",
        "https://[::1]/ping",
    ),
    *("*", "a:80", "//", "///", "//a", "//a/v2", "/.", "/..", "/../v2", "/%", "/%2", "/%00", "/%ff", "/?", "/??", "/#"),
    *("/v2#a", "/%2e%2e/%2e%2e/etc/passwd", "/docs/static/../../etc/passwd", "/docs/static/%2e%2e/%2e%2e/a"),
    *(
        "/docs/static/%00",
        "/docs/static//etc/passwd",
        "x",
        "",
        " ",
        "http://a b",
        "/\x7f",
        "/\xff",
        "/v2/\xc3\xa9",
        "ftp://a/b",
    ),
    *(
        "/v2/models/%0d%0aX-A:%20b/ready",
        "/v2/models/%1b[2J/ready",
        "http://a/v2/models/digits/infer",
        "/v2/models/%ED%A0%80",
    ),
)
PIECES = (
    *(
        "%",
        "%2",
        "%zz",
        "%00",
        "%ff",
        "%2f",
        "%2F..",
        "//",
        "/./",
        "/../",
        "?",
        "#",
        ";",
        ":",
        "@",
        "&=",
        "+",
        "~",
        "*",
        "|",
    ),
    *(
        "\\",
        "'",
        '"',
        "<",
        "{}",
        "[",
        "^",
        "`",
        "%c0%af",
        "%u0041",
        "a" * 300,
        "0",
        "-1",
        "9" * 30,
        "1e9",
        "null",
        "%E2%80%A8",
    ),
)
HEADERS = (
    *(
        "X-Request-Id: \x80\xff",
        "X-Request-Id: " + "a" * 500,
        "X-Forwarded-Prefix: /a/../b",
        "X-Forwarded-Prefix: //evil",
    ),
    *(
        "X-Forwarded-Prefix: /ok",
        "X-Forwarded-Proto: \xff",
        "X-Forwarded-For: ,,,",
        "Host: ",
        "Host: [",
        "Host: a:b:c",
        "Host: \xff",
    ),
    *("Accept: */*;q=x", "Accept: application/openmetrics-text;version=x", "Accept: text/plain;version=9" + "9" * 50),
    *(
        "Accept: application/openmetrics-text;version=1.0.0;escaping=\xff",
        "Accept-Encoding: gzip;q=9, deflate;q=",
        "Range: bytes=-1",
    ),
    *(
        "Range: bytes=9-1,0-0",
        "If-Modified-Since: x",
        "If-None-Match: \xff",
        "Content-Type: \xff",
        "Content-Type: multipart/form-data",
    ),
    *(
        "Content-Encoding: br",
        "Expect: x",
        "Expect: 100-continue",
        "Connection: upgrade",
        "Upgrade: h2c",
        "Upgrade: websocket",
    ),
    *(
        "Cookie: \xff=\x01",
        "traceparent: 00-\xff",
        "traceparent: 00-0-0-0",
        "X-Request-Timeout-Ms: 1e999",
        "Cache-Control: max-age=\xff",
    ),
    *(
        "Origin: null",
        "Authorization: \xff",
        "Inference-Header-Content-Length: -1",
        "A" * 200 + ": b",
        "\xff: b",
        ": b",
        "a b: c",
    ),
)
BODIES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff",
    b"{",
    b'{"ready": 1}',
    b'{"parameters": []}',
    b'{"log_info": "x"}',
    b"0" * 300,
)


def odd_request(dice: random.Random) -> tuple[str, bytes]:
    """The method and the bytes of one request that is complete, whatever else it is."""
    method = dice.choice(METHODS)
    if dice.random() < 0.3:
        target = dice.choice(WHOLE)
    else:
        target = dice.choice(PAGES)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 4))):
            at = dice.randint(0, len(target))
            target = target[:at] + dice.choice(PIECES) + target[at + dice.randint(0, 2) :]
    body = dice.choice(BODIES)
    lines = [f"{method} {target} HTTP/{dice.choice(('1.1', '1.1', '1.1', '1.0', '2.0', '0.9', '1', ''))}"]
    lines += dice.sample(HEADERS, dice.choice((0, 1, 1, 2, 5)))
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return method, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def statuses(port: int, dice: random.Random, stack: ExitStack) -> Counter[int]:
    found: Counter[int] = Counter()
    client = Client(("127.0.0.1", port))
    stack.callback(lambda: client.socket.close())
    for _ in range(REQUESTS):
        method, sent = odd_request(dice)
        try:
            client.send(sent)
            answer = client.answer(method)
            while answer.status == 100:
                answer = client.answer(method)
        except TimeoutError:
            raise AssertionError(sent) from None
        except (ConnectionError, EOFError):
            # Of a connection that ended before this was sent, or was ended by it without a word: never mind which.
            found[0] += 1
        else:
            found[answer.status] += 1
            assert answer.status < 500, (sent, answer)
            assert "forged" not in answer.headers
            if answer.headers.get("connection") != "close" and not method.startswith("CONNECT"):
                continue
        client.socket.close()
        client = Client(("127.0.0.1", port))
    return found


def test_no_head_is_a_fault_of_ours(tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with serving(EXAMPLES, "--management-port", port, "--log-level", "debug", log=log) as server, ExitStack() as stack:
        dice = random.Random(20)
        callers, managers = statuses(server.port, dice, stack), statuses(int(port), dice, stack)
        assert server.client.get("/v2/health/ready").json()["ready"]
    for found in (callers, managers):
        # Most are answered, and in many ways; few connections end without a word.
        assert found[0] < REQUESTS / 10, found
        assert {200, 400, 404, 405} <= set(found)
    told = log.read_text()
    for trace in ("Traceback", '"exception"', "exc_info", '"level": "error"'):
        assert trace not in told, told[max(0, told.index(trace) - 500) :][:2000]


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://a", 404), ("http://a/ping", 200), ("*", 404), ("//", 404), ("/%", 404), ("a:80", 400)],
)
def test_targets_in_every_form(examples: SluiceProcess, target: str, status: int) -> None:
    with Client(("127.0.0.1", examples.port)) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.answer().status == status
