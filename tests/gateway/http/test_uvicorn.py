"""What the lane takes for granted in uvicorn's protocol. Where one of these fails, a new uvicorn has changed it."""

from __future__ import annotations

import asyncio
import inspect
from typing import cast

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sluice.gateway.http.asgi import AsgiLane
from sluice.gateway.http.lane import make_lane
from tests.gateway.http.planes import PuppetApp, PuppetPlane
from tests.gateway.http.servers import Client, Served, request


@pytest.fixture
def protocol() -> HttpToolsProtocol:
    loop = asyncio.new_event_loop()
    try:
        config = uvicorn.Config(PuppetApp(PuppetPlane()), log_config=None)
        config.load()
        return HttpToolsProtocol(config, ServerState(), {}, loop)
    finally:
        loop.close()


@pytest.mark.parametrize(
    "name",
    [
        *("parser", "cycle", "flow", "transport", "loop", "server", "client", "scheme"),
        *("headers", "expect_100_continue", "server_state"),
    ],
)
def test_a_connection_has(protocol: HttpToolsProtocol, name: str) -> None:
    assert hasattr(protocol, name)


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (HttpToolsProtocol, "__init__", ["self", "config", "server_state", "app_state", "_loop"]),
        (HttpToolsProtocol, "on_message_begin", ["self"]),
        (HttpToolsProtocol, "on_headers_complete", ["self"]),
        (HttpToolsProtocol, "on_body", ["self", "body"]),
        (HttpToolsProtocol, "on_message_complete", ["self"]),
        (HttpToolsProtocol, "on_response_complete", ["self"]),
        (HttpToolsProtocol, "handle_websocket_upgrade", ["self"]),
        (HttpToolsProtocol, "_should_upgrade", ["self"]),
        (HttpToolsProtocol, "_start_asgi_task", ["self", "cycle", "app"]),
        (HttpToolsProtocol, "connection_lost", ["self", "exc"]),
        (FlowControl, "__init__", ["self", "transport"]),
        (FlowControl, "pause_reading", ["self"]),
        (FlowControl, "resume_reading", ["self"]),
        (FlowControl, "pause_writing", ["self"]),
        (FlowControl, "resume_writing", ["self"]),
    ],
)
def test_a_method_is_called_as_before(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_a_request_has_the_fields_that_the_lane_reads_and_writes() -> None:
    source = inspect.getsource(RequestResponseCycle.__init__)
    for name in (
        "transport",
        "body",
        "disconnected",
        "keep_alive",
        "response_started",
        "response_complete",
        "message_event",
    ):
        assert f"self.{name} = " in source


def test_a_websocket_takes_uvicorn_s_way() -> None:
    heard: list[bytes] = []

    class Other(asyncio.Protocol):
        def __init__(self, **_: object) -> None:
            self.transport = asyncio.Transport()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            heard.append(data)
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    plane = PuppetPlane()
    ask = ("Connection: Upgrade", "Upgrade: websocket")
    with (
        Served(AsgiLane(plane, PuppetApp(plane)), http=make_lane(plane), ws=Other) as served,
        Client(served.address) as client,
        Client(served.address) as pipelined,
    ):
        client.send(request("/v2/echo", b"before") + request("/chat", b"", *ask, method="GET"))
        assert client.answer().body == b"before"
        assert client.answer().status == 400
        pipelined.send(request("/v2/echo", b"before"))
        assert pipelined.answer().body == b"before"
        pipelined.send(request("/chat", b"", *ask, method="GET"))
        assert pipelined.answer().status == 101
        pipelined.send(b"frame")
        served.until(lambda: heard[-1] == b"frame")
        assert heard[0].startswith(b"GET /chat HTTP/1.1\r\nhost: test\r\n")
