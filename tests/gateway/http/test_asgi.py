"""The ASGI way without a server: what another server than uvicorn may say and leave out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import AsgiLane, AsgiScope, Message, Receive, Send, target
from tests.gateway.http.planes import PuppetApp, PuppetPlane


def _scope(path: str, method: str = "POST", **more: Any) -> AsgiScope:
    return {"type": "http", "method": method, "path": path, "headers": [], "http_version": "1.1", **more}


class Conversation:
    """Says to an application what it is given, then waits for ever; keeps what it hears."""

    def __init__(self, *said: Message) -> None:
        self.said = list(said)
        self.heard: list[Message] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        if self.said:
            return self.said.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.heard.append(message)


def _body(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (_scope("/v2/a"), b"/v2/a"),
        (_scope("/v2/a b", raw_path=b"/v2/a%20b"), b"/v2/a%20b"),
        (_scope("/v2/a b"), b"/v2/a%20b"),
        (_scope("/v2/a", query_string=b"b=c"), b"/v2/a?b=c"),
        (_scope("/up/v2/a", root_path="/up", raw_path=b"/up/v2/a"), b"/v2/a"),
    ],
)
def test_the_target_is_put_together_again(scope: AsgiScope, expected: bytes) -> None:
    assert target(scope) == expected


async def test_a_body_in_parts() -> None:
    plane = PuppetPlane()
    told = Conversation(_body(b"a", more=True), {"type": "http.request", "more_body": True}, _body(b"b"))
    await AsgiLane(plane, PuppetApp(plane))(_scope("/v2/echo"), told.receive, told.send)
    assert told.heard[0]["status"] == 200
    assert told.heard[1]["body"] == b"ab"


async def test_a_client_that_goes_before_its_body_is_complete() -> None:
    plane = PuppetPlane()
    told = Conversation(_body(b"a", more=True), {"type": "http.disconnect"})
    await AsgiLane(plane, PuppetApp(plane))(_scope("/v2/echo"), told.receive, told.send)
    assert (told.heard, plane.calls) == ([], 0)


async def test_a_client_that_goes_while_it_waits() -> None:
    plane = PuppetPlane()
    told = Conversation(_body(b""))
    running = asyncio.create_task(AsgiLane(plane, PuppetApp(plane))(_scope("/v2/wait/x"), told.receive, told.send))
    await asyncio.wait_for(asyncio.to_thread(plane.gate("x").began.wait), 10)
    told.gone.set()
    await asyncio.wait_for(running, 10)
    assert plane.gate("x").cancelled.is_set()
    assert told.heard == []


async def test_a_server_that_gives_up_cancels_the_answer() -> None:
    plane = PuppetPlane()
    told = Conversation(_body(b""))
    running = asyncio.create_task(AsgiLane(plane, PuppetApp(plane))(_scope("/v2/wait/x"), told.receive, told.send))
    await asyncio.wait_for(asyncio.to_thread(plane.gate("x").began.wait), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert plane.gate("x").cancelled.is_set()


async def test_a_refused_client_that_never_ends_its_body() -> None:
    plane = PuppetPlane(max_body_bytes=10)
    lane = AsgiLane(plane, PuppetApp(plane), ConnectionLimits(linger_s=0.01))
    told = Conversation(_body(b"x" * 11, more=True))
    await lane(_scope("/v2/echo"), told.receive, told.send)
    assert told.heard[0]["status"] == 413
    assert (b"connection", b"close") in told.heard[0]["headers"]


async def test_http_2_knows_no_connection_header() -> None:
    plane = PuppetPlane(max_body_bytes=10)
    told = Conversation(_body(b"x" * 11))
    await AsgiLane(plane, PuppetApp(plane))(_scope("/v2/echo", http_version="2"), told.receive, told.send)
    assert told.heard[0]["status"] == 413
    assert (b"connection", b"close") not in told.heard[0]["headers"]


async def test_what_is_no_prediction_goes_to_the_application_untouched() -> None:
    seen: list[tuple[AsgiScope, Receive, Send]] = []

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    told = Conversation()
    lane = AsgiLane(PuppetPlane(), app)
    scopes: list[AsgiScope] = [{"type": "lifespan"}, {"type": "websocket", "path": "/v2/echo"}, _scope("/docs")]
    for scope in scopes:
        await lane(scope, told.receive, told.send)
    assert [(given, told.receive, told.send) for given in scopes] == seen
