"""What all connections together hold of requests is bounded, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.server_context import HttpServerContext
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, chunked, request

LIMIT_BYTES = 200_000
ID = "X-Request-Id: mine"


@contextmanager
def served(plane: PuppetPlane) -> Iterator[tuple[Served, HttpServerContext]]:
    lane = make_lane(plane, ConnectionLimits(max_buffered_bytes=LIMIT_BYTES))
    with Served(AsgiLane(plane, PuppetApp(plane)), http=lane) as server:
        yield server, lane.context
        assert lane.context.held.now_bytes == 0


def _pieces(sent: bytes, size_bytes: int) -> list[bytes]:
    return [sent[at : at + size_bytes] for at in range(0, len(sent), size_bytes)]


REFUSED = {
    "a body": [request("/v2/echo", b"x" * 150_000, ID)],
    "a body in small pieces": _pieces(request("/v2/echo", b"x" * 150_000, ID), 1500),
    "a body just long enough for a piece": [request("/v2/echo", b"x" * 60_000, ID)],
    "chunks": [chunked("/v2/echo", *[b"x" * 10_000] * 15).replace(b"Host", ID.encode() + b"\r\nHost", 1)],
    "small chunks": _pieces(
        chunked("/v2/echo", *[b"x" * 1000] * 150).replace(b"Host", ID.encode() + b"\r\nHost", 1), 1500
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_too_many(name: str) -> None:
    with served(PuppetPlane()) as (server, door), Client(server.address) as first, Client(server.address) as second:
        sent = request("/v2/echo", b"x" * 150_000)
        first.send(sent[:-1])
        server.until(lambda: door.held.now_bytes >= 149_000)
        *pieces, last = REFUSED[name]
        # All but the last byte: what a busy server reads whole in one go it holds nothing of.
        second.send_what_is_taken([*pieces, last[:-1]])
        answer = second.answer()
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        assert answer.headers["x-request-id"] == "mine"
        first.send(sent[-1:])
        assert len(first.answer().body) == 150_000
        assert server.ask(lambda: door.held.now_bytes) == 0
        with Client(server.address) as third:
            third.send(request("/v2/echo", b"x" * 150_000))
            assert len(third.answer().body) == 150_000


def test_a_body_counts_until_it_is_answered() -> None:
    plane = PuppetPlane()
    with served(plane) as (server, door), Client(server.address) as first, Client(server.address) as second:
        first.send(request("/v2/wait/x", b"x" * 150_000))
        assert plane.gate("x").began.wait(10)
        second.send_what_is_taken([request("/v2/echo", b"x" * 60_000)[:-1]])
        assert second.answer().status == 503
        plane.gate("x").open()
        assert first.answer().body == b"x"
        assert server.ask(lambda: door.held.now_bytes) == 0
        assert first.is_open()


def test_small_requests_are_served_all_the_same() -> None:
    plane = PuppetPlane()
    with served(plane) as (server, _), Client(server.address) as first, Client(server.address) as second:
        first.send(request("/v2/wait/x", b"x" * (LIMIT_BYTES - 100)))
        assert plane.gate("x").began.wait(10)
        second.send(request("/v2/echo", b"small"))
        assert second.answer().body == b"small"
        assert second.is_open()
        plane.gate("x").open()
        assert first.answer().body == b"x"


def test_what_waits_behind_a_slow_request_counts() -> None:
    plane = PuppetPlane()
    with served(plane) as (server, door), Client(server.address) as first, Client(server.address) as second:
        first.send(request("/v2/wait/x", b"x" * (LIMIT_BYTES - 50_000)))
        second.send(request("/v2/wait/y"))
        assert plane.gate("x").began.wait(10)
        assert plane.gate("y").began.wait(10)
        second.send(request("/v2/echo", b"small") * 1000)
        connection = server.connection_of(second)
        server.until(lambda: connection.connection.parser.ended)
        assert server.ask(lambda: door.held.now_bytes) <= LIMIT_BYTES
        plane.gate("y").open()
        assert second.answer().body == b"y"
        while (answer := second.answer()).status == 200:
            assert answer.body == b"small"
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        assert second.ended()
        plane.gate("x").open()
        assert first.answer().body == b"x"


@pytest.mark.parametrize("cut", [-1, -100_000])
def test_a_client_that_goes_gives_back_what_it_held(cut: int) -> None:
    with served(PuppetPlane()) as (server, door), Client(server.address) as client:
        client.send(request("/v2/echo", b"x" * 150_000)[:cut])
        server.until(lambda: door.held.now_bytes > 10_000)
        client.reset()
        server.until(lambda: door.held.now_bytes == 0)


def test_what_a_page_has_read_is_given_back() -> None:
    with served(PuppetPlane()) as (server, door), Client(server.address) as client:
        client.send(request("/app/echo", b"x" * 150_000))
        assert len(client.answer().body) == 150_000
        assert server.ask(lambda: door.held.now_bytes) == 0


def test_a_head_counts_while_it_comes_in_and_until_it_is_answered() -> None:
    plane = PuppetPlane()
    head = request("/v2/wait/head", b"", *["X-Long: " + "x" * 5000] * 4)
    with served(plane) as (server, door), Client(server.address) as client:
        client.send(head[:-100])
        server.until(lambda: 10_000 < door.held.now_bytes < 21_000)
        client.send(head[-100:])
        assert plane.gate("head").began.wait(10)
        assert server.ask(lambda: door.held.now_bytes) > 10_000
        plane.gate("head").open()
        assert client.answer().body == b"head"
        assert server.ask(lambda: door.held.now_bytes) == 0
        assert client.is_open()
