"""Clients that go: their answers are cancelled, at once and exactly once."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable

import pytest

from tests.gateway.http.conftest import Way
from tests.gateway.http.servers import Client, request

_names = itertools.count()


def _close(client: Client) -> None:
    client.socket.close()


def _half_close(client: Client) -> None:
    client.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [_close, _half_close, Client.reset])
def test_a_client_that_goes_cancels_its_answer(own_way: Way, leave: Callable[[Client], None]) -> None:
    name = f"gone{next(_names)}"
    gate = own_way.plane.gate(name)
    with own_way.client() as client:
        client.send(request(f"/v2/wait/{name}"))
        assert gate.began.wait(10)
        leave(client)
        assert gate.ended.wait(10)
        assert gate.cancelled.is_set()
    own_way.served.until(lambda: not own_way.served.server.server_state.tasks)


def test_a_client_that_goes_takes_what_waits_behind_with_it(lane: Way) -> None:
    name = f"gone{next(_names)}"
    gate = lane.plane.gate(name)
    with lane.client() as client:
        client.send(request(f"/v2/wait/{name}"))
        assert gate.began.wait(10)
        calls = lane.plane.calls
        client.send(request("/v2/echo"))
        connection = lane.served.connection_of(client)
        lane.served.until(lambda: connection.connection.order.waiting)
        client.reset()
        # A queued request stops the reading, so that the reset shows when the first answer is written.
        gate.open()
        lane.served.until(lambda: connection not in lane.served.server.server_state.connections)
    assert lane.plane.calls <= calls + 1


@pytest.mark.parametrize("cut", [5, 40, -2])
def test_a_client_that_goes_in_mid_request_is_never_answered(lane: Way, cut: int) -> None:
    calls = lane.plane.calls
    with lane.client() as client:
        client.send(request("/v2/echo", b"hello")[:cut])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ended()
    assert lane.plane.calls == calls


def test_a_neighbour_is_not_touched(lane: Way) -> None:
    gone, stays = f"gone{next(_names)}", f"stays{next(_names)}"
    with lane.client() as first, lane.client() as second:
        first.send(request(f"/v2/wait/{gone}"))
        second.send(request(f"/v2/wait/{stays}"))
        assert lane.plane.gate(gone).began.wait(10)
        first.reset()
        assert lane.plane.gate(gone).cancelled.wait(10)
        lane.plane.gate(stays).open()
        assert second.answer().body == stays.encode()
