"""A head that was parsed before means what it meant then, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.head_cache import HeadCache
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.server_context import HttpServerContext
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, chunked, request


@dataclass(frozen=True)
class Lane:
    """A lane and what its connections share. `remembering` answers by memory where it can, `forgetful` never does."""

    served: Served
    door: HttpServerContext

    def client(self) -> Client:
        return Client(self.served.address)


def _lane(max_heads: int) -> Iterator[Lane]:
    plane = PuppetPlane()
    protocol = make_lane(plane)
    protocol.context.head_cache = HeadCache(max_heads)
    with Served(AsgiLane(plane, PuppetApp(plane)), http=protocol, date_header=False) as served:
        yield Lane(served, protocol.context)


@pytest.fixture(scope="module")
def remembering() -> Iterator[Lane]:
    # Few, so that it starts anew now and then.
    yield from _lane(max_heads=8)


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Lane]:
    yield from _lane(max_heads=0)


def _learnt(data: bytes, *names: bytes, body: bytes = b"", keep_alive: bool = True) -> HeadCache:
    known = HeadCache()
    headers = [(name, b"1") for name in (b"host", b"content-length", *names)]
    known.learn(data, Prediction("route", "POST", headers, keep_alive, None, body))
    return known


def test_a_head_is_known_by_its_bytes() -> None:
    known = _learnt(b"head\r\n\r\nbody", body=b"body")
    found = known.complete(b"head\r\n\r\nmore")
    assert found is not None
    assert (found.route, found.method, found.body, found.received, found.keep_alive) == (
        "route",
        "POST",
        b"more",
        True,
        True,
    )
    assert found.headers == ((b"host", b"1"), (b"content-length", b"1"))
    for other in (b"Head\r\n\r\nmore", b"head\r\n\r\nmor", b"head\r\n\r\nmore+", b"head\r\n\r\n", b"head", b""):
        assert known.complete(other) is None


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"x-api-key",
        b"x-request-id",
        b"x-correlation-id",
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"x-amzn-trace-id",
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"b3",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"trailer",
        b"x-nobody-knows",
        b"x-request-timeout-ms",
    ],
)
def test_secrets_and_what_differs_in_each_request_are_not_kept(name: bytes) -> None:
    assert len(_learnt(b"head\r\n\r\n")) == 1
    assert len(_learnt(b"head\r\n\r\n", name)) == 0


def test_what_is_not_one_whole_plain_request_is_not_kept() -> None:
    assert len(_learnt(b"head\r\n\r\n", keep_alive=False)) == 0
    assert len(_learnt(b"head\r\n\r\nbody", body=b"bod")) == 0
    assert len(_learnt(b"head" * HeadCache.MAX_HEAD_BYTES + b"\r\n\r\n")) == 0
    known = HeadCache()
    known.learn(b"head\r\n\r\n", Prediction("route", "GET", [(b"host", b"1")], True))
    assert len(known) == 0


def test_it_is_bounded() -> None:
    known = HeadCache(max_heads=3)
    for i in range(10):
        known.learn(b"%d\r\n\r\n" % i, Prediction("route", "POST", [(b"content-length", b"0")], True))
        assert len(known) <= 3
        assert known.complete(b"%d\r\n\r\n" % i) is not None


def test_a_known_head_passes_the_parser_by(remembering: Lane) -> None:
    class Untouchable:
        def feed_data(self, data: bytes) -> None:
            raise AssertionError(data)

    with remembering.client() as client:
        client.send(request("/v2/echo", b"123"))
        assert client.answer().body == b"123"
        parser = remembering.served.connection_of(client).connection.parser
        http, parser.http = parser.http, Untouchable()
        for body in (b"abc", b"\r\n\r", b"\0\0\0"):
            client.send(request("/v2/echo", body))
            assert client.answer().body == body
        parser.http = http
        client.send(request("/v2/echo", b"other"))
        assert client.answer().body == b"other"


BODIES = [b"", b"1", b"2", b"\r\n\r\n", b"ab\r\n\r\ncd", b"x" * 8, b"GET / HT", b"x" * 4000, b"y" * 9000]
HEADERS = [
    (),
    ("Content-Type: application/json",),
    ("X-Request-Id: 1",),
    ("Connection: keep-alive",),
    ("Authorization: Bearer 1",),
    ("Upgrade: h2c",),
    ("Connection: Upgrade", "Upgrade: h2c"),
]
TARGETS = ["/v2/echo", "/v2/method", "/v2/target?a", "/v2/headers", "/v2/status/204", "/v2/boom", "/app/echo"]


@dataclass(frozen=True)
class Ask:
    method: str
    sent: bytes


def _ask(method: str, target: str, body: bytes, headers: tuple[str, ...], length: bool) -> Ask:
    return Ask(method, request(target, body if length else b"", *headers, method=method, length=length))


ASKS = st.one_of(
    st.builds(
        _ask,
        st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT"]),
        st.sampled_from(TARGETS),
        st.sampled_from(BODIES),
        st.sampled_from(HEADERS),
        st.sampled_from([True, True, True, False]),
    ),
    st.builds(lambda body: Ask("POST", chunked("/v2/echo", *([body] if body else []))), st.sampled_from(BODIES)),
)
LAST = [
    Ask("POST", request("/v2/echo", b"1", "Connection: close")),
    Ask("POST", request("/v2/echo", b"1", version="1.0")),
    Ask("POST", b"nonsense\r\n\r\n"),
    Ask("POST", request("/v2/echo", b"\r\n\r\n", "Content-Length: 4")),
]


def _answers(lane: Lane, asks: list[Ask], pieces: list[bytes], waits: list[bool]) -> list[tuple[str, bytes]]:
    """Send the pieces; where `waits` says so, only after everything that was asked for has been answered."""
    ends = [0]
    for ask in asks:
        ends.append(ends[-1] + len(ask.sent))
    heard: list[tuple[str, bytes]] = []
    sent_bytes = 0

    def hear(count: int) -> None:
        while len(heard) < count:
            answer = client.answer(asks[len(heard)].method)
            heard.append((answer.head, answer.body))

    with lane.client() as client:
        for piece, wait in zip(pieces, waits, strict=True):
            client.send(piece)
            sent_bytes += len(piece)
            if wait:
                hear(sum(end <= sent_bytes for end in ends[1:]))
        hear(len(asks))
        assert client.ended()
    lane.served.until(lambda: lane.door.held.now_bytes == 0)
    return heard


@settings(max_examples=150, deadline=None)
@given(asks=st.lists(ASKS, max_size=8), last=st.sampled_from(LAST), data=st.data())
def test_memory_changes_no_answer(
    remembering: Lane, forgetful: Lane, asks: list[Ask], last: Ask, data: st.DataObject
) -> None:
    asks = [*asks, *asks, last]
    sent = b"".join(ask.sent for ask in asks)
    ends = [0]
    for ask in asks:
        ends.append(ends[-1] + len(ask.sent))
    cut = data.draw(st.lists(st.integers(0, len(sent)), max_size=6), label="cuts")
    whole = data.draw(st.lists(st.sampled_from(ends), max_size=20), label="cuts between requests")
    cuts = sorted({0, *cut, *whole, len(sent)})
    pieces = [sent[start:end] for start, end in pairwise(cuts)]
    waits = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)), label="waits")
    expected = _answers(forgetful, asks, pieces, [False] * len(pieces))
    assert _answers(remembering, asks, pieces, waits) == expected
    assert len(forgetful.door.head_cache) == 0
