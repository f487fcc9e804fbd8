"""Slow senders, slow readers, idle connections, too many connections: each has an end, and harms nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.connections.limits import ConnectionLimits, connection_cap, surplus_connections
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, chunked, request

SOON_S = 0.25


@contextmanager
def served(limits: ConnectionLimits, plane: PuppetPlane | None = None, **config: Any) -> Iterator[Served]:
    plane = plane or PuppetPlane()
    with Served(AsgiLane(plane, PuppetApp(plane)), http=make_lane(plane, limits), **config) as server:
        yield server


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"PO", id="a line"),
        pytest.param(b"POST /v2/echo HTTP/1.1\r\nHost: te", id="headers"),
        pytest.param(request("/v2/echo", b"hello")[:-1], id="a body"),
        pytest.param(request("/v2/echo", b"x" * 200_000)[:-1], id="a large body"),
        pytest.param(request("/app/echo", b"hello")[:-1], id="a body of another request"),
        pytest.param(b"POST /v2/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", id="chunks"),
    ],
)
def test_a_slow_sender_is_told_so(sent: bytes) -> None:
    limits = ConnectionLimits(request_read_timeout_s=SOON_S, min_body_bytes_per_s=10_000_000)
    with served(limits) as server, Client(server.address) as client:
        client.send(request("/v2/echo", b"quick"), sent)
        assert client.answer().body == b"quick"
        assert client.answer().status == 408
        assert client.ended()


def test_a_trickle_does_not_help_a_slow_sender() -> None:
    """The time is that of the whole request, not of each byte."""
    with served(ConnectionLimits(request_read_timeout_s=SOON_S)) as server, Client(server.address) as client:

        def trickle() -> Iterator[bytes]:
            yield b"POST /v2/echo HTTP/1.1\r\nContent-Length: 1000000\r\n"
            for _ in range(500):
                if client.hears(0.01):
                    return
                yield b"X: y\r\n"

        client.send_what_is_taken(trickle())
        assert client.answer().status == 408
        assert client.ended()


def test_a_request_in_hand_is_not_slow() -> None:
    plane = PuppetPlane()
    with (
        served(ConnectionLimits(request_read_timeout_s=SOON_S), plane, timeout_keep_alive=SOON_S) as server,
        Client(server.address) as client,
        Client(server.address) as slow,
    ):
        client.send(request("/v2/wait/long") + b"POST /v2/ec")
        slow.send(b"POST")
        assert slow.answer().status == 408
        plane.gate("long").open()
        assert client.answer().body == b"long"
        assert client.answer().status == 408


def test_an_idle_connection_is_closed() -> None:
    with served(ConnectionLimits(), timeout_keep_alive=SOON_S) as server, Client(server.address) as client:
        client.send(request("/v2/echo", b"once"))
        assert client.answer().body == b"once"
        assert client.ended()


def test_a_body_that_nobody_waited_for_does_not_keep_a_connection_open() -> None:
    """FastAPI may answer before the body is there: it is thrown away, and then the connection is idle."""
    with served(ConnectionLimits(), timeout_keep_alive=1) as server, Client(server.address) as client:
        sent = request("/app/early", b"x" * 100_000)
        client.send(sent[:1000])
        assert client.answer().body == b"early"
        client.send(sent[1000:] + request("/v2/echo", b"next"))
        assert client.answer().body == b"next"
        client.send(sent[:1000])
        assert client.answer().body == b"early"
        client.send(sent[1000:])
        assert client.ended()


def test_a_connection_that_never_asks_is_closed() -> None:
    with served(ConnectionLimits(request_read_timeout_s=SOON_S)) as server, Client(server.address) as client:
        assert client.ended()


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_a_client_that_never_reads_is_cut_off(prefix: str) -> None:
    with (
        served(ConnectionLimits(write_timeout_s=SOON_S)) as server,
        Client(server.address, receive_buffer_bytes=4096) as client,
    ):
        client.send(request(f"{prefix}/large/20000000") + request("/v2/echo"))
        client.begun()
        server.until_connections(0)


def test_a_client_that_never_reads_the_last_answer_is_cut_off() -> None:
    with (
        served(ConnectionLimits(write_timeout_s=SOON_S)) as server,
        Client(server.address, receive_buffer_bytes=4096) as client,
    ):
        client.send(request("/v2/large/20000000", b"", "Connection: close"))
        client.begun()
        server.until_connections(0)


def test_a_slow_reader_is_served() -> None:
    """Longer than the time limit in all, but never without progress. The time is the test's own."""
    size, limit_s = 20_000_000, 1000.0
    with (
        served(ConnectionLimits(write_timeout_s=limit_s), timeout_keep_alive=30) as server,
        Client(server.address, receive_buffer_bytes=65536) as client,
    ):
        client.send(request(f"/v2/large/{size}") + request("/v2/echo", b"next"))
        connection = server.connection_of(client)
        server.until(lambda: connection.transport.get_write_buffer_size())
        began_s = server.ask(lambda: connection.connection.life.deadline)
        for _ in range(4):
            unsent_bytes = server.ask(lambda: connection.transport.get_write_buffer_size())
            while server.ask(lambda: connection.transport.get_write_buffer_size()) == unsent_bytes:
                assert client.read(65536)
            server.ask(lambda: connection.connection.life.overdue(connection.connection.life.deadline))
        assert server.ask(lambda: connection.connection.life.deadline) == began_s + 4 * limit_s
        assert len(client.answer().body) == size
        assert client.answer().body == b"next"


def test_a_reader_that_stops_is_cut_off() -> None:
    with (
        served(ConnectionLimits(write_timeout_s=1000.0)) as server,
        Client(server.address, receive_buffer_bytes=65536) as client,
    ):
        client.send(request("/v2/large/20000000"))
        connection = server.connection_of(client)
        server.until(lambda: connection.transport.get_write_buffer_size())
        client.begun()
        # Once what the kernel holds has found its way, nothing more moves.
        server.ask(lambda: connection.connection.life.overdue(connection.connection.life.deadline))
        unsent_bytes = -1
        while unsent_bytes != server.ask(lambda: connection.transport.get_write_buffer_size()):
            unsent_bytes = server.ask(lambda: connection.transport.get_write_buffer_size())
            server.ask(lambda: connection.connection.life.overdue(connection.connection.life.deadline))
        server.until_connections(0)


@pytest.mark.parametrize("chunks", [False, True], ids=["a length", "chunks"])
def test_a_long_body_may_take_longer(chunks: bool) -> None:
    body = b"x" * 200_000
    sent = chunked("/v2/echo", body) if chunks else request("/v2/echo", body)
    limits = ConnectionLimits(request_read_timeout_s=SOON_S, min_body_bytes_per_s=1000)
    with served(limits) as server, Client(server.address) as client:
        client.send(sent[:-1])
        connection = server.connection_of(client)
        server.until(lambda: connection.connection.parser.filling is not None)
        begun_s = server.ask(lambda: connection.connection.life.deadline)
        # The time is over, and more is granted.
        server.until(lambda: connection.connection.life.deadline > begun_s + 100)
        client.send(sent[-1:])
        assert client.answer().body == body


def test_a_long_body_may_not_take_any_time() -> None:
    limits = ConnectionLimits(request_read_timeout_s=SOON_S, min_body_bytes_per_s=1_000_000)
    with served(limits) as server, Client(server.address) as client:
        client.send(request("/v2/echo", b"x" * 200_000)[:-1])
        assert client.answer().status == 408
        assert client.ended()


def test_an_answer_that_is_not_read_holds_the_next_request_back() -> None:
    plane = PuppetPlane()
    size = 8_000_000
    with (
        served(ConnectionLimits(), plane) as server,
        Client(server.address, receive_buffer_bytes=65536) as client,
        Client(server.address) as other,
    ):
        client.send(request(f"/v2/large/{size}") * 3)
        other.send(request("/v2/wait/x"))
        gate = plane.gate("x")
        gate.open()
        assert other.answer().body == b"x"
        connection = server.connection_of(client)
        unsent = server.ask(lambda: connection.transport.get_write_buffer_size())
        assert 0 < unsent <= size + 1000
        assert plane.calls == 2
        assert not server.ask(lambda: connection.transport.is_reading())
        for _ in range(3):
            assert len(client.answer().body) == size


@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_too_many_headers(prefix: str, pieces: int) -> None:
    with served(ConnectionLimits(max_headers=100)) as server, Client(server.address) as client:
        client.send(request(f"{prefix}/echo", b"body", *["a: b"] * 98))
        assert client.answer().body == b"body"
        sent = request(f"{prefix}/echo", b"body", *["a: b"] * 4000)
        size = len(sent) // pieces + 1
        client.send_what_is_taken([sent[at : at + size] for at in range(0, len(sent), size)])
        assert client.answer().status == 431
        assert client.ended_without_reset()


def test_one_connection_too_many() -> None:
    with served(ConnectionLimits(max_connections=2)) as server, Client(server.address) as first:
        with Client(server.address) as second:
            assert first.is_open()
            assert second.is_open()
            with Client(server.address) as third:
                third.send(request("/v2/echo"))
                answer = third.answer()
                assert (answer.status, answer.headers["connection"]) == (503, "close")
                assert third.ended()
            assert first.is_open()
            assert second.is_open()
        server.until_connections(1)
        with Client(server.address) as fourth:
            assert fourth.is_open()


def test_far_too_many_connections_are_not_even_told() -> None:
    with served(ConnectionLimits(max_connections=1, linger_s=30)) as server:
        clients = [Client(server.address) for _ in range(20)]
        try:
            with pytest.raises((EOFError, ConnectionResetError)):
                clients[-1].answer()
            assert clients[0].is_open()
        finally:
            for client in clients:
                client.socket.close()


def test_a_refused_client_may_send_on_and_read_the_refusal() -> None:
    plane = PuppetPlane(max_body_bytes=1000)
    with served(ConnectionLimits(), plane) as server, Client(server.address) as client:
        client.send(request("/v2/echo", b"x" * 3_000_000))
        assert client.answer().status == 413
        assert client.ended_without_reset()


def test_a_client_that_has_sent_too_much_behind_its_last_request_hears_the_answer() -> None:
    plane = PuppetPlane()
    with served(ConnectionLimits(linger_bytes=1_000_000), plane) as server, Client(server.address) as client:
        client.send(request("/v2/wait/last", b"", "Connection: close") + b"x" * 1_600_000)
        connection = server.connection_of(client)
        server.until(lambda: not connection.transport.is_reading())
        plane.gate("last").open()
        assert client.answer().body == b"last"
        assert client.ended_without_reset()


def test_a_refused_client_may_not_send_on_for_ever() -> None:
    plane = PuppetPlane(max_body_bytes=1000)
    with served(ConnectionLimits(linger_bytes=100_000), plane) as server, Client(server.address) as client:
        head = b"POST /v2/echo HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"
        client.send_what_is_taken([head, *[b"x" * 100_000] * 1000])
        server.until_connections(0)


def test_a_refused_client_may_not_stay() -> None:
    plane = PuppetPlane(max_body_bytes=1000)
    with served(ConnectionLimits(linger_s=SOON_S), plane) as server, Client(server.address) as client:
        client.send(b"POST /v2/echo HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.answer().status == 413
        server.until_connections(0)


@pytest.mark.parametrize(
    ("max_connections", "descriptors", "reserved", "cap"),
    [
        (10_000, 1_048_576, 1000, 10_000),
        (10_000, -1, 1000, 10_000),
        (10_000, 1024, 124, 800),
        (10_000, 100, 20, 64),
        (50, 1024, 124, 50),
        (10_000, 1024, 2048, 1),
        (10_000, 10, 0, 1),
    ],
)
def test_connections_leave_descriptors_for_everything_else(
    max_connections: int, descriptors: int, reserved: int, cap: int
) -> None:
    assert connection_cap(max_connections, descriptors, reserved) == cap


@given(st.integers(1, 100_000), st.integers(100, 200_000), st.integers(0, 60))
def test_as_many_connections_as_there_is_room_for(max_connections: int, descriptors: int, reserved: int) -> None:
    def needed(cap: int) -> int:
        return cap + surplus_connections(cap) + reserved

    cap = connection_cap(max_connections, descriptors, reserved)
    assert needed(cap) <= descriptors
    assert cap == max_connections or needed(cap + 2) > descriptors


@pytest.mark.parametrize(
    "name",
    [
        "max_header_bytes",
        "max_headers",
        "request_read_timeout_s",
        "min_body_bytes_per_s",
        "max_connections",
        "max_buffered_bytes",
    ],
)
def test_limits_must_be_limits(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ConnectionLimits(**{name: 0})
