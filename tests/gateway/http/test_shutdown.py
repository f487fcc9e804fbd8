"""A server that stops finishes what it has begun, says `connection: close`, and keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from sluice.gateway.http.request_parser import HEAD
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, request


@contextmanager
def served(
    plane: PuppetPlane,
    draining: Callable[[], bool] = lambda: False,
    limits: ConnectionLimits | None = None,
    **config: Any,
) -> Iterator[Served]:
    app = AsgiLane(plane, PuppetApp(plane))
    with Served(app, http=make_lane(plane, limits, draining), **config) as server:
        yield server


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_a_request_on_its_way_to_a_connection_that_looked_idle_is_answered(prefix: str) -> None:
    """The server has closed its port, and so has seen nothing of these requests when it said farewell."""
    limits = ConnectionLimits(farewell_s=60)
    with (
        served(PuppetPlane(), limits=limits) as server,
        Client(server.address) as fresh,
        Client(server.address) as used,
        Client(server.address) as halfway,
    ):
        assert fresh.is_open()
        used.send(request(f"{prefix}/echo", b"before"))
        assert "connection" not in used.answer().headers
        message = request(f"{prefix}/echo", b"after")
        halfway.send(message[:20])
        connections = [server.connection_of(client) for client in (fresh, used, halfway)]
        server.until(lambda: connections[-1].connection.parser.stage == HEAD)
        server.stop()
        server.until(lambda: all(connection.connection.leaving for connection in connections))
        halfway.send(message[20:])
        for client in (fresh, used):
            client.send(message)
        for client in (fresh, used, halfway):
            answer = client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"after", "close")
            assert client.ended()
        server.join()


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_a_request_in_hand_is_answered_and_an_idle_connection_closed(prefix: str) -> None:
    plane = PuppetPlane()
    with served(plane) as server, Client(server.address) as client, Client(server.address) as idle:
        assert idle.is_open()
        client.send(request(f"{prefix}/wait/last"))
        assert plane.gate("last").began.wait(10)
        server.stop()
        assert idle.ended()
        plane.gate("last").open()
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        assert client.ended()
        server.join()


def test_requests_that_wait_behind_another_are_answered() -> None:
    plane = PuppetPlane()
    with served(plane) as server, Client(server.address) as client, Client(server.address) as idle:
        assert idle.is_open()
        client.send(request("/v2/wait/last") + request("/app/echo", b"2") + request("/v2/echo", b"3"))
        assert plane.gate("last").began.wait(10)
        server.stop()
        assert idle.ended()
        plane.gate("last").open()
        answers = [client.answer() for _ in range(3)]
        assert [answer.body for answer in answers] == [b"last", b"2", b"3"]
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        assert client.ended()


def test_a_request_that_is_coming_in_is_answered() -> None:
    plane = PuppetPlane()
    with served(plane) as server, Client(server.address) as client, Client(server.address) as idle:
        assert idle.is_open()
        client.send(request("/v2/echo", b"body", "Expect: 100-continue")[:-4])
        assert client.answer().status == 100
        server.stop()
        assert idle.ended()
        client.send(b"body")
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"body", "close")
        assert client.ended()


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    plane = PuppetPlane()
    with served(plane, timeout_graceful_shutdown=0.1) as server, Client(server.address) as client:
        client.send(request("/v2/wait/never"))
        assert plane.gate("never").began.wait(10)
        server.stop()
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert plane.gate("never").cancelled.wait(10)


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_while_draining_answers_close_their_connection(prefix: str) -> None:
    draining: list[bool] = []
    with served(PuppetPlane(), lambda: bool(draining)) as server, Client(server.address) as client:
        client.send(request(f"{prefix}/echo", b"1"))
        assert "connection" not in client.answer().headers
        draining.append(True)
        client.send(request(f"{prefix}/echo", b"2"))
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"2", "close")
        assert client.ended()


def test_while_draining_a_pipeline_is_answered_to_its_end() -> None:
    plane = PuppetPlane()
    with served(plane, lambda: True) as server, Client(server.address) as client:
        client.send(request("/v2/wait/first") + request("/v2/echo", b"2"))
        plane.gate("first").open()
        answers = [client.answer(), client.answer()]
        assert [answer.headers.get("connection") for answer in answers] == [None, "close"]
        assert client.ended()
