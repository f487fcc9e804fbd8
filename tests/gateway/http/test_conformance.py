"""The same bytes to the lane, to the ASGI way, and to uvicorn alone: the same answers, or a reason why not.

The lane's answers once more from its connection alone, without a server and without sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from tests.gateway.http.bare import BareSide
from tests.gateway.http.conftest import Way
from tests.gateway.http.planes import MAX_BODY_BYTES
from tests.gateway.http.servers import Answer, Conversation, chunked, request

ANY = b"<any>"
Name = Literal["lane", "asgi", "uvicorn"]


@dataclass(frozen=True)
class Outcome:
    """Statuses and bodies in order (`ANY`: no matter what it says), and whether the connection can be used again."""

    answers: tuple[tuple[int, bytes], ...]
    stays_open: bool


@dataclass(frozen=True)
class Differs:
    """A deliberate difference from what the lane does."""

    ways: tuple[Name, ...]
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Case:
    name: str
    sent: bytes
    outcome: Outcome
    differs: Differs | None = None
    method: str = "POST"

    def expected(self, way: str) -> Outcome:
        return self.differs.outcome if self.differs is not None and way in self.differs.ways else self.outcome


def opened(*answers: tuple[int, bytes]) -> Outcome:
    return Outcome(answers, stays_open=True)


def closed(*answers: tuple[int, bytes]) -> Outcome:
    return Outcome(answers, stays_open=False)


def raw(*lines: str, body: bytes = b"", end: str = "\r\n") -> bytes:
    return (end.join(lines) + end * 2).encode("latin-1") + body


UPGRADE = "Connection: Upgrade, HTTP2-Settings"
OVER = MAX_BODY_BYTES + 1
NO_LIMIT = "uvicorn has no limit of its own"

SOUND = [
    Case("a request without a body", request("/v2/method", method="GET", length=False), opened((200, b"GET"))),
    Case("a request with a body", request("/v2/echo", b"hello"), opened((200, b"hello"))),
    Case("an empty body", request("/v2/echo"), opened((200, b""))),
    Case("chunks", chunked("/v2/echo", b"hel", b"lo"), opened((200, b"hello"))),
    Case("no chunks", chunked("/v2/echo"), opened((200, b""))),
    Case(
        "chunk extensions",
        request("/v2/echo", b"", "Transfer-Encoding: chunked", length=False) + b'3;a=b;c="d"\r\nabc\r\n0;x\r\n\r\n',
        opened((200, b"abc")),
    ),
    Case("trailers", chunked("/v2/echo", b"abc", trailer="X-Late: 1\r\n"), opened((200, b"abc"))),
    Case(
        "trailers are no headers",
        chunked("/v2/headers", b"abc", trailer="Authorization: forged\r\n"),
        opened((200, b"host,transfer-encoding")),
        Differs(
            ("asgi", "uvicorn"),
            opened((200, b"authorization,host,transfer-encoding")),
            "uvicorn adds trailers to the headers of the scope",
        ),
    ),
    Case(
        "a pipeline",
        b"".join(request("/v2/echo", b"%d" % i) for i in range(20)),
        opened(*((200, b"%d" % i) for i in range(20))),
    ),
    Case(
        "a pipeline of predictions and others",
        b"".join(request(("/v2/echo", "/app/echo")[i % 2], b"%d" % i) for i in range(20)),
        opened(*((200, b"%d" % i) for i in range(20))),
    ),
    Case(
        "a pipeline of others and predictions",
        b"".join(chunked(("/app/echo", "/v2/echo")[i % 2], b"%d" % i) for i in range(20)),
        opened(*((200, b"%d" % i) for i in range(20))),
    ),
    Case("HTTP/0.9", b"GET /v2/method\r\n\r\n", closed((200, b"GET"))),
    Case("HTTP/1.0", request("/v2/echo", b"old", version="1.0"), closed((200, b"old"))),
    Case(
        "HTTP/1.0 that would stay",
        request("/v2/echo", b"old", "Connection: keep-alive", version="1.0"),
        closed((200, b"old")),
    ),
    Case("Connection: close", request("/v2/echo", b"last", "Connection: close"), closed((200, b"last"))),
    Case(
        "requests after the last one are not answered",
        request("/v2/echo", b"last", "Connection: close") + request("/v2/echo", b"more") + request("/app/echo"),
        closed((200, b"last")),
    ),
    Case("HEAD", request("/v2/target", method="HEAD"), opened((200, b"")), method="HEAD"),
    Case(
        "HEADs in a pipeline",
        request("/v2/target", method="HEAD") * 3,
        opened((200, b""), (200, b""), (200, b"")),
        method="HEAD",
    ),
    Case("a wrong method", request("/v2/echo", method="DELETE"), opened((405, b"use POST"))),
    Case("a query", request("/v2/target?a=b&c=%20d"), opened((200, b"/v2/target?a=b&c=%20d"))),
    Case("a percent-encoded path", request("/v2/target/a%2Fb%20c"), opened((200, b"/v2/target/a%2Fb%20c"))),
    Case("an absolute target", request("http://test/v2/target?a=b"), opened((200, b"/v2/target?a=b"))),
    Case("204", request("/v2/status/204") + request("/v2/echo", b"next"), opened((204, b""), (200, b"next"))),
    Case("304", request("/v2/status/304") + request("/v2/echo", b"next"), opened((304, b""), (200, b"next"))),
    Case("a status without a name", request("/v2/status/299"), opened((299, b"as asked"))),
    Case("empty lines before a request", b"\r\n\r\n" + request("/v2/echo", b"x"), opened((200, b"x"))),
    Case("names in any case", request("/v2/headers", b"", "X-ABC: 1"), opened((200, b"content-length,host,x-abc"))),
    Case("a large answer", request("/v2/large/300000"), opened((200, b"x" * 300000))),
    Case("the largest body", request("/v2/echo", b"x" * MAX_BODY_BYTES), opened((200, b"x" * MAX_BODY_BYTES))),
    Case(
        "large bodies in a pipeline",
        request("/v2/echo", b"x" * 200000) + request("/v2/echo", b"y" * 100000) + request("/app/echo", b"z" * 200000),
        opened((200, b"x" * 200000), (200, b"y" * 100000), (200, b"z" * 200000)),
    ),
    Case(
        "a large body, and then the last one",
        request("/v2/echo", b"x" * 200000) + request("/v2/echo", b"y" * 200000, "Connection: close"),
        closed((200, b"x" * 200000), (200, b"y" * 200000)),
    ),
    Case(
        "an error in the plane",
        request("/v2/boom") + request("/v2/echo", b"next"),
        opened((500, b"Internal Server Error"), (200, b"next")),
        Differs(
            ("uvicorn",),
            closed((500, b"Internal Server Error")),
            "the request was read whole, so there is no need to close the connection",
        ),
    ),
    Case(
        "a line end in a header of an answer",
        request("/v2/inject"),
        opened((500, b"Internal Server Error")),
        Differs(("uvicorn",), closed(), "uvicorn closes the connection without a word"),
    ),
    Case(
        "an upgrade to what is not spoken here",
        request("/v2/echo", b"body", UPGRADE, "Upgrade: h2c"),
        opened((200, b"body")),
        Differs(("asgi", "uvicorn"), opened((200, b"")), "uvicorn takes the body for the other protocol"),
    ),
    Case(
        "an upgrade without the word for it",
        request("/v2/echo", b"body", "Upgrade: h2c"),
        opened((200, b"body")),
    ),
]

BROKEN = [
    Case("no HTTP", b"hello there\r\n\r\n", closed((400, ANY))),
    Case("a version that is none", raw("GET /v2/echo HTTP/x"), closed((400, ANY))),
    Case("a space in the target", raw("GET /v2/a b HTTP/1.1"), closed((400, ANY))),
    Case("bytes beyond ASCII in the target", raw("GET /v2/\xe9 HTTP/1.1"), closed((400, ANY))),
    Case("CONNECT", raw("CONNECT test:443 HTTP/1.1"), closed((400, ANY))),
    Case("bare line feeds", raw("GET /v2/echo HTTP/1.1", "Host: test", end="\n"), closed((400, ANY))),
    Case("a header without a colon", raw("GET /v2/echo HTTP/1.1", "Host test"), closed((400, ANY))),
    Case("a space before the colon", raw("GET /v2/echo HTTP/1.1", "Host : test"), closed((400, ANY))),
    Case("a folded header", raw("GET /v2/echo HTTP/1.1", "A: b", " c"), closed((400, ANY))),
    Case("a zero byte in a header", raw("GET /v2/echo HTTP/1.1", "A: b\0c"), closed((400, ANY))),
    Case("a negative length", raw("POST /v2/echo HTTP/1.1", "Content-Length: -1"), closed((400, ANY))),
    Case("a signed length", raw("POST /v2/echo HTTP/1.1", "Content-Length: +3", body=b"abc"), closed((400, ANY))),
    Case("a huge length", raw("POST /v2/echo HTTP/1.1", f"Content-Length: {10**30}"), closed((400, ANY))),
    Case(
        "two lengths",
        raw("POST /v2/echo HTTP/1.1", "Content-Length: 3", "Content-Length: 4", body=b"abcd"),
        closed((400, ANY)),
    ),
    Case(
        "the same length twice",
        raw("POST /v2/echo HTTP/1.1", "Content-Length: 3", "Content-Length: 3", body=b"abc"),
        closed((400, ANY)),
    ),
    Case(
        "a length and chunks",
        raw("POST /v2/echo HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        closed((400, ANY)),
    ),
    Case(
        "chunks and a length",
        raw("POST /v2/echo HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 3", body=b"0\r\n\r\n"),
        closed((400, ANY)),
    ),
    Case(
        "chunks that are not the last coding",
        raw("POST /v2/echo HTTP/1.1", "Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        closed((400, ANY)),
    ),
    Case(
        "an unknown coding",
        raw("POST /v2/echo HTTP/1.1", "Transfer-Encoding: identity", body=b"abc"),
        closed((400, ANY)),
    ),
    Case(
        "a chunk size that is none",
        raw("POST /v2/echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"xyz\r\nabc\r\n0\r\n\r\n"),
        closed((400, ANY)),
    ),
    Case(
        "a chunk longer than its size",
        raw("POST /v2/echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"2\r\nabc\r\n0\r\n\r\n"),
        closed((400, ANY)),
    ),
    Case(
        "a broken request behind others",
        request("/v2/echo", b"1") + request("/app/echo", b"2") + b"nonsense\r\n\r\n",
        closed((200, b"1"), (200, b"2"), (400, ANY)),
        Differs(
            ("asgi", "uvicorn"),
            closed((400, ANY)),
            "uvicorn answers the broken one first, which the client takes for the answer to the one before",
        ),
    ),
]

LARGE = [
    Case(
        "a body over the limit",
        request("/v2/echo", b"x" * OVER),
        closed((413, ANY)),
        Differs(("uvicorn",), opened((200, b"x" * OVER)), NO_LIMIT),
    ),
    Case(
        "chunks over the limit",
        chunked("/v2/echo", *[b"x" * 1000] * 263),
        closed((413, ANY)),
        Differs(("uvicorn",), opened((200, b"x" * 263000)), NO_LIMIT),
    ),
    Case(
        "a body over the limit behind others",
        request("/v2/echo", b"1") + request("/app/echo", b"2") + request("/v2/echo", b"x" * OVER),
        closed((200, b"1"), (200, b"2"), (413, ANY)),
        Differs(("uvicorn",), opened((200, b"1"), (200, b"2"), (200, b"x" * OVER)), NO_LIMIT),
    ),
    Case(
        "headers over the limit",
        request("/v2/echo", b"", *(f"X-{i}: {'y' * 1000}" for i in range(66))),
        closed((431, ANY)),
        Differs(("asgi", "uvicorn"), opened((200, b"")), NO_LIMIT),
    ),
    Case(
        "one header over the limit",
        request("/app/echo", b"", "X: " + "y" * 70000),
        closed((431, ANY)),
        Differs(("asgi", "uvicorn"), opened((200, b"")), NO_LIMIT),
    ),
    Case(
        "headers just within the limit",
        request("/v2/echo", b"", *(f"X-{i}: {'y' * 1000}" for i in range(64))),
        opened((200, b"")),
    ),
    Case(
        "a target over the limit",
        request("/v2/echo?" + "y" * 70000),
        closed((431, ANY)),
        Differs(("asgi", "uvicorn"), closed((400, ANY)), "uvicorn's parser of targets takes 65535 bytes"),
    ),
    Case(
        "trailers over the limit",
        chunked("/v2/echo", b"abc", trailer="X: " + "y" * 80000 + "\r\n"),
        closed((431, ANY)),
        Differs(("asgi", "uvicorn"), opened((200, b"abc")), NO_LIMIT),
    ),
    Case(
        "a chunk extension over the limit",
        request("/app/echo", b"", "Transfer-Encoding: chunked", length=False)
        + b"3;"
        + b"y" * 80000
        + b"\r\nabc\r\n0\r\n\r\n",
        closed((431, ANY)),
        Differs(("asgi", "uvicorn"), opened((200, b"abc")), NO_LIMIT),
    ),
]


def _outcome(client: Conversation, case: Case, expected: Outcome) -> Outcome:
    answers: list[Answer] = [client.answer(case.method) for _ in expected.answers]
    seen = [
        (answer.status, ANY if want[1] == ANY else answer.body)
        for answer, want in zip(answers, expected.answers, strict=True)
    ]
    stays_open = client.is_open() if expected.stays_open else not client.ended()
    if answers and not expected.stays_open:
        assert answers[-1].headers.get("connection") == "close"
    return Outcome(tuple(seen), stays_open)


@pytest.mark.parametrize("case", [*SOUND, *BROKEN, *LARGE], ids=lambda case: case.name)
def test_in_one_piece(way: Way, case: Case) -> None:
    expected = case.expected(way.name)
    with way.client() as client:
        client.send_what_is_taken([case.sent])
        assert _outcome(client, case, expected) == expected


@pytest.mark.parametrize("case", [*SOUND, *BROKEN, *LARGE], ids=lambda case: case.name)
def test_without_sockets(case: Case) -> None:
    with Conversation(BareSide()) as client:
        client.send_what_is_taken([case.sent])
        assert _outcome(client, case, case.outcome) == case.outcome


@pytest.mark.parametrize("case", [*SOUND, *BROKEN], ids=lambda case: case.name)
@pytest.mark.parametrize("size_bytes", [1, 7, 4096, 4097])
def test_piece_by_piece_without_sockets(case: Case, size_bytes: int) -> None:
    if len(case.sent) / size_bytes > 20_000:
        size_bytes = 997
    with Conversation(BareSide()) as client:
        client.send_what_is_taken(case.sent[i : i + size_bytes] for i in range(0, len(case.sent), size_bytes))
        assert _outcome(client, case, case.outcome) == case.outcome


@pytest.mark.parametrize("case", [case for case in [*SOUND, *BROKEN] if len(case.sent) < 5000], ids=lambda c: c.name)
def test_byte_by_byte(lane: Way, case: Case) -> None:
    with lane.client() as client:
        client.send_what_is_taken(case.sent[i : i + 1] for i in range(len(case.sent)))
        assert _outcome(client, case, case.outcome) == case.outcome


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_answers_have_a_date_and_a_length(own_way: Way, case: Case) -> None:
    with own_way.client() as client:
        client.send(case.sent)
        for status, body in case.expected(own_way.name).answers:
            headers = client.answer(case.method).headers
            assert {"date", "server"} <= headers.keys()
            if case.method == "POST" and status not in (204, 304):
                assert int(headers["content-length"]) == len(body)
            assert ("content-length" in headers) == (status not in (204, 304))
