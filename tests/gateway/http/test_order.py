"""Requests of one connection are answered in the order in which they came, whoever is quicker."""

from __future__ import annotations

import itertools

import pytest

from tests.gateway.http.conftest import Way
from tests.gateway.http.servers import Client, request

_names = itertools.count()


@pytest.mark.parametrize("slow", ["/v2", "/app"])
@pytest.mark.parametrize("quick", ["/v2", "/app"])
def test_a_quick_request_waits_for_a_slow_one(way: Way, slow: str, quick: str) -> None:
    name = f"slow{next(_names)}"
    with way.client() as client:
        client.send(request(f"{slow}/wait/{name}"), request(f"{quick}/echo", b"quick"))
        way.plane.gate(name).open()
        assert [client.answer().body, client.answer().body] == [name.encode(), b"quick"]
        assert client.is_open()


@pytest.mark.parametrize("slow", ["/v2", "/app"])
def test_a_refusal_waits_for_the_answers_before_it(lane: Way, slow: str) -> None:
    name = f"slow{next(_names)}"
    with lane.client() as client:
        client.send(request(f"{slow}/wait/{name}"), request("/app/echo", b"second"), b"nonsense\r\n\r\n")
        lane.plane.gate(name).open()
        assert [client.answer().status for _ in range(3)] == [200, 200, 400]
        assert client.ended()


def test_what_waits_is_bounded(lane: Way) -> None:
    """However much is pipelined behind a slow request, few of it is parsed, and no more is read."""
    name = f"slow{next(_names)}"
    gate = lane.plane.gate(name)
    with lane.client() as client:
        client.send(request(f"/v2/wait/{name}"))
        assert gate.began.wait(10)
        client.send(request("/app/echo") * 400)
        connection = lane.served.connection_of(client)
        assert (
            lane.served.ask(lambda: len(connection.connection.order.waiting)) <= 4096 // len(request("/app/echo")) + 1
        )
        gate.open()
        assert client.answer().body == name.encode()
        assert {client.answer().status for _ in range(400)} == {200}
        assert client.is_open()


def test_many_requests_on_one_connection(way: Way) -> None:
    with way.client() as client:
        for i in range(1000):
            client.send(request(("/v2/echo", "/app/echo")[i % 3 == 0], b"%d" % i))
            assert client.answer().body == b"%d" % i


def test_requests_of_different_connections_do_not_wait_for_each_other(lane: Way) -> None:
    name = f"slow{next(_names)}"
    with lane.client() as first, Client(lane.served.address) as second:
        first.send(request(f"/v2/wait/{name}"))
        second.send(request("/v2/echo", b"quick"))
        assert second.answer().body == b"quick"
        lane.plane.gate(name).open()
        assert first.answer().body == name.encode()
