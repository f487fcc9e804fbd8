"""Answers that nobody reads count for as long as they are there, and make room when too much is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.server_context import HttpServerContext
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, request

ANSWER_BYTES = 10_000_000
"""More than the kernel takes off our hands."""


@contextmanager
def served(limits: ConnectionLimits) -> Iterator[tuple[Served, HttpServerContext]]:
    plane = PuppetPlane()
    lane = make_lane(plane, limits)
    with Served(AsgiLane(plane, PuppetApp(plane)), http=lane) as server:
        yield server, lane.context
        server.until_connections(0)
        assert lane.context.held.now_bytes == 0


def deaf(server: Served, target: str, body: bytes = b"") -> Client:
    """A client that has asked for something and does not read the answer."""
    client = Client(server.address, receive_buffer_bytes=4096)
    connection = server.connection_of(client)
    client.send(request(target, body))
    server.until(lambda: connection.transport.get_write_buffer_size() or connection.transport.is_closing())
    return client


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_an_answer_counts_whole_until_it_is_read(prefix: str) -> None:
    """And nothing else of its call does, which is not kept."""
    with (
        served(ConnectionLimits()) as (server, door),
        deaf(server, f"{prefix}/large/{ANSWER_BYTES}", b"x" * 100_000) as client,
    ):
        assert ANSWER_BYTES <= server.ask(lambda: door.held.now_bytes) < ANSWER_BYTES + 10_000
        connection = server.connection_of(client)
        assert server.ask(lambda: connection.connection.order.current) is None
        assert connection.pages is None or server.ask(lambda: bytes(connection.pages.cycle.body)) == b""
        assert len(client.answer().body) == ANSWER_BYTES
        server.until(lambda: door.held.now_bytes == 0)
        assert client.is_open()


def test_a_short_answer_that_the_kernel_does_not_take_counts_too() -> None:
    with served(ConnectionLimits()) as (server, door), Client(server.address, receive_buffer_bytes=4096) as client:
        ask = request("/v2/large/60000") * 10
        connection = server.connection_of(client)
        while not server.ask(lambda: connection.transport.get_write_buffer_size()):
            client.send(ask)
        server.until(lambda: door.held.now_bytes >= 1)


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_those_who_read_nothing_make_room(prefix: str) -> None:
    limits = ConnectionLimits(max_buffered_bytes=3 * ANSWER_BYTES - 1, crowded_grace_s=0.05)
    with served(limits) as (server, door), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(deaf(server, f"{prefix}/large/{ANSWER_BYTES}"))
        # No more of them than need be.
        server.until_connections(2)
        assert not server.ask(lambda: door.held.over)
        with Client(server.address) as client:
            assert client.is_open()


def test_while_too_much_is_held_no_prediction_is_begun() -> None:
    limits = ConnectionLimits(max_buffered_bytes=ANSWER_BYTES - 1, crowded_grace_s=1000)
    with served(limits) as (server, door), Client(server.address) as client:
        with deaf(server, f"/v2/large/{ANSWER_BYTES}") as holder:
            client.send(request("/v2/echo", b"small"))
            answer = client.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert len(holder.answer().body) == ANSWER_BYTES
        server.until(lambda: not door.held.over)
        client.send(request("/v2/echo", b"small"))
        assert client.answer().body == b"small"


def test_a_client_that_reads_on_is_not_cut_off() -> None:
    """It takes more in each look than it must; the time is the test's own."""
    limits = ConnectionLimits(max_buffered_bytes=1000, crowded_grace_s=1000, min_body_bytes_per_s=1)
    with served(limits) as (server, _), deaf(server, f"/v2/large/{ANSWER_BYTES}") as client:
        connection = server.connection_of(client)
        for turn in range(4):
            server.ask(partial(connection.connection.life.make_room, 1000.0 * turn))
            for _ in range(20):
                client.read(65536)
        assert len(client.answer().body) == ANSWER_BYTES


def test_a_client_that_reads_a_byte_now_and_then_is() -> None:
    limits = ConnectionLimits(max_buffered_bytes=1000, crowded_grace_s=1000, min_body_bytes_per_s=1000)
    with served(limits) as (server, _), deaf(server, f"/v2/large/{ANSWER_BYTES}") as client:
        connection = server.connection_of(client)
        server.ask(lambda: connection.connection.life.make_room(0.0))
        client.read(1)
        server.ask(lambda: connection.connection.life.make_room(1000.0))
        server.until_connections(0)
