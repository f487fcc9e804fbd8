"""`Expect: 100-continue`: who asks first is told whether to send, and only then."""

from __future__ import annotations

import pytest

from sluice.gateway.http.request_parser import BODY
from tests.gateway.http.conftest import Way
from tests.gateway.http.planes import MAX_BODY_BYTES
from tests.gateway.http.servers import request

EXPECT = "Expect: 100-continue"


def _head(target: str, length: int, *headers: str) -> bytes:
    return request(target, b"", EXPECT, f"Content-Length: {length}", *headers, length=False)


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_a_body_is_asked_for(way: Way, prefix: str) -> None:
    with way.client() as client:
        client.send(_head(f"{prefix}/echo", 5))
        assert client.answer().status == 100
        client.send(b"hello")
        assert client.answer().body == b"hello"
        assert client.is_open()


def test_chunks_are_asked_for(way: Way) -> None:
    with way.client() as client:
        client.send(request("/v2/echo", b"", EXPECT, "Transfer-Encoding: chunked", length=False))
        assert client.answer().status == 100
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert client.answer().body == b"hello"


def test_a_body_that_is_too_large_is_not_asked_for(own_way: Way) -> None:
    with own_way.client() as client:
        client.send(_head("/v2/echo", MAX_BODY_BYTES + 1))
        assert client.answer().status == 413
        assert client.ended()


def test_a_body_that_is_there_already_is_not_asked_for(lane: Way) -> None:
    with lane.client() as client:
        client.send(_head("/v2/echo", 5) + b"hello")
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("prefix", ["/v2", "/app"])
def test_an_old_client_is_not_asked(lane: Way, prefix: str) -> None:
    """One of HTTP/1.0 would take it for the answer."""
    with lane.client() as client:
        client.send(request(f"{prefix}/echo", b"", EXPECT, "Content-Length: 5", version="1.0", length=False))
        connection = lane.served.connection_of(client)
        lane.served.until(lambda: connection.connection.parser.stage == BODY)
        client.send(b"hello")
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize("first", ["/v2", "/app"])
def test_it_is_asked_for_in_its_turn(lane: Way, first: str) -> None:
    name = f"expect{first[1:]}"
    with lane.client() as client:
        client.send(request(f"{first}/wait/{name}") + _head("/v2/echo", 5))
        lane.plane.gate(name).open()
        assert [client.answer().status, client.answer().status] == [200, 100]
        client.send(b"hello")
        assert client.answer().body == b"hello"
