"""A data plane that does what the path of a request says, and an ASGI application that does the same."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence

from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.connections.loop_turns import LoopTurns
from sluice.gateway.http.asgi import AsgiScope, Receive, Send
from sluice.gateway.messages import Body, Header, HttpResponse
from sluice.inference.errors import SluiceError, Unavailable

TEXT: Header = (b"content-type", b"text/plain")
MAX_BODY_BYTES = 256 * 1024


class Gate:
    """What a request at `/wait` waits for. `began`, `ended` and `cancelled` are for the test to wait for."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.cancelled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = asyncio.Event()

    def open(self) -> None:
        assert self.began.wait(10)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)

    async def passed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.began.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.ended.set()


class PuppetPlane:
    """Targets under `/v2/` are predictions; the rest of the path says what to do with them.

    `echo` answers the body, `target` the target, `method` the method, `headers` the header names, `large/N` N bytes,
    `status/N` that status, `boom` raises, `wait/NAME` waits for a gate, `inject` answers with a broken header.
    """

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_body_bytes = max_body_bytes
        self.loop_turns = LoopTurns()
        self.gates: dict[str, Gate] = {}
        self.calls = 0

    def gate(self, name: str) -> Gate:
        return self.gates.setdefault(name, Gate())

    def recognise(self, target: bytes) -> str | None:
        return target.decode("latin-1") if target.startswith(b"/v2/") else None

    async def answer(
        self, route: str, method: str, headers: Sequence[Header], body: Body, came_s: float = math.inf
    ) -> HttpResponse:
        self.calls += 1
        if isinstance(body, LongBody):
            body = body.whole()
        _, _, action, *rest = route.partition("?")[0].split("/")
        if method not in ("GET", "HEAD", "POST"):
            return HttpResponse(405, b"use POST", (TEXT, (b"allow", b"POST")))
        if action == "wait":
            await self.gate(rest[0]).passed()
            return HttpResponse(200, rest[0].encode(), (TEXT,))
        if action == "boom":
            raise RuntimeError("boom")
        if action == "inject":
            return HttpResponse(200, b"", ((b"x-a", b"b\r\nx-c: d"),))
        if action == "large":
            return HttpResponse(200, b"x" * int(rest[0]), (TEXT,))
        if action == "status":
            return HttpResponse(int(rest[0]), b"" if rest[0] in ("204", "304") else b"as asked", (TEXT,))
        answers = {
            "echo": bytes(body),
            "early": b"early",
            "target": route.encode("latin-1"),
            "method": method.encode(),
            "headers": b",".join(sorted(name for name, _ in headers)),
        }
        return HttpResponse(200, answers[action], (TEXT,))

    def refuse(self, route: str, headers: Sequence[Header], error: SluiceError) -> HttpResponse:
        request_id = dict(headers).get(b"x-request-id")
        if isinstance(error, Unavailable):
            return HttpResponse(503, str(error).encode(), (TEXT, (b"retry-after", b"1")), request_id)
        return HttpResponse(413, str(error).encode(), (TEXT,), request_id)


class PuppetApp:
    """The plane as an ordinary ASGI application, for any target: under `/app/` by itself, or to compare with.

    At `/app/early` it answers without waiting for the body.
    """

    def __init__(self, plane: PuppetPlane) -> None:
        self.plane = plane

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body, more = b"", scope["path"] != "/app/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        response = await self.plane.answer(target, scope["method"], scope["headers"], body)
        headers = list(response.headers)
        if response.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(response.body)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": False})
