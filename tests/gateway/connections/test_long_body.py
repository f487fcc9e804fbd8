"""Bodies in any pieces come out whole, and cost no more than what has come of them."""

from __future__ import annotations

import psutil
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, request

SIZES = st.lists(st.one_of(st.integers(0, 50), st.integers(0, 40_000)), max_size=8)


@given(start=st.binary(max_size=100), sizes=SIZES, views=st.booleans(), rest=st.binary(max_size=10))
def test_pieces_are_put_together(start: bytes, sizes: list[int], views: bool, rest: bytes) -> None:
    pieces = [(b"%05d " % size * (size // 6 + 1))[:size] for size in sizes]
    body = LongBody(start, sum(sizes))
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        data = piece + rest if last else piece
        left = body.take(memoryview(data) if views else data)
        assert bytes(left) == (rest if last else b"")
        assert body.received_bytes == len(start) + sum(sizes[: at + 1])
        assert body.left_bytes == sum(sizes[at + 1 :])
    assert body.whole() == start + b"".join(pieces)


def test_an_announcement_costs_nothing() -> None:
    announced_bytes = 64 * 1024 * 1024
    plane = PuppetPlane(max_body_bytes=announced_bytes)
    head = request("/v2/echo", b"", f"Content-Length: {announced_bytes}", "Expect: 100-continue", length=False)
    with Served(AsgiLane(plane, PuppetApp(plane)), http=make_lane(plane)) as served:
        process = psutil.Process()
        before_bytes = process.memory_info().rss
        clients = [Client(served.address) for _ in range(6)]
        for client in clients:
            client.send(head)
            assert client.answer().status == 100
        served.ask(lambda: None)
        assert process.memory_info().rss - before_bytes < announced_bytes
        for client in clients:
            client.socket.close()
