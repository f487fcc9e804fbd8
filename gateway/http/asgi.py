"""The lane as a plain ASGI application, for any ASGI server and for tests without a socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import quote

from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http import wire
from sluice.gateway.messages import DataPlane, Header, HttpResponse
from sluice.inference.errors import RequestTooLarge

_logger = logging.getLogger("sluice.http")

AsgiScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

_CLOSE: Header = (b"connection", b"close")
_BARE_500 = wire.plain(500, "Internal Server Error")


class AsgiLane:
    """Hands predictions to the plane, and everything else (WebSockets and the lifespan, too) to `app`, unchanged.

    A body over `plane.max_body_bytes` is refused, by its announced length or as it comes in, and the connection closed.
    When the client disconnects, the answer is cancelled and nothing is sent. Timeouts and the rest of HTTP are left to
    the server.
    """

    def __init__(self, plane: DataPlane[Any], app: App, limits: ConnectionLimits | None = None) -> None:
        self._plane = plane
        self._app = app
        self._limits = limits or ConnectionLimits()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        route = self._plane.recognise(target(scope)) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        headers: list[Header] = [(name.lower(), value) for name, value in scope["headers"]]
        body = bytearray()
        try:
            await self._gather(headers, body, receive)
        except _OverLimitError as over:
            if over.more and not any(name == b"expect" for name, _ in headers):
                await self._discard(receive)
            error = RequestTooLarge(
                f"the body is larger than the limit of {self._plane.max_body_bytes} bytes (server.max_body_bytes)"
            )
            await send_response(send, scope["method"], self._plane.refuse(route, headers, error), closing(scope))
        except _GoneError:
            return
        else:
            await self._answer(route, scope["method"], headers, body, receive, send)

    async def _gather(self, headers: Sequence[Header], body: bytearray, receive: Receive) -> None:
        limit_bytes = self._plane.max_body_bytes
        if announced_bytes(headers) > limit_bytes:
            raise _OverLimitError(more=True)
        more = True
        while more:
            part, more = await _part(receive)
            body += part
            if len(body) > limit_bytes:
                raise _OverLimitError(more=more)

    async def _discard(self, receive: Receive) -> None:
        """Let a refused client send on for a while: closed at once, it would see a reset and not the refusal.

        Not called for one that waits for `100 Continue`: to ask for its body makes the server invite it.
        """
        left_bytes, more = self._limits.linger_bytes, True
        with suppress(TimeoutError, _GoneError):
            async with asyncio.timeout(self._limits.linger_s):
                while more and left_bytes > 0:
                    part, more = await _part(receive)
                    left_bytes -= len(part)

    async def _answer(
        self, route: Any, method: str, headers: list[Header], body: bytearray, receive: Receive, send: Send
    ) -> None:
        answer = asyncio.create_task(self._plane.answer(route, method, headers, body))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                await send_response(send, method, _outcome(answer), ())
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)


def target(scope: AsgiScope) -> bytes:
    """The request target in origin form, as a lane would have seen it: percent-encoded, without the root path."""
    root_path = scope.get("root_path", "")
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=~").encode("ascii")
    raw_path = raw_path.removeprefix(quote(root_path).encode("ascii"))
    query: bytes = scope.get("query_string", b"")
    return raw_path + b"?" + query if query else raw_path


class _GoneError(Exception):
    """The client has disconnected."""


class _OverLimitError(Exception):
    """The body is over the limit; `more` of it is to come."""

    def __init__(self, *, more: bool) -> None:
        super().__init__()
        self.more = more


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _GoneError
    return message.get("body", b""), message.get("more_body", False)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _outcome(answer: asyncio.Task[HttpResponse]) -> HttpResponse:
    try:
        response = answer.result()
        wire.header_lines(response.headers)
    except (Exception, asyncio.CancelledError):
        _logger.exception("a prediction raised an unexpected error")
        return _BARE_500
    return response


def closing(scope: AsgiScope) -> Sequence[Header]:
    """The header that ends the connection, where the protocol has one."""
    return () if scope.get("http_version", "1.1").startswith(("2", "3")) else (_CLOSE,)


async def send_response(
    send: Send, method: str, response: HttpResponse, more_headers: Sequence[Header], *, more: bool = False
) -> None:
    """Send a whole answer; with `more`, the caller is to send one more part of its body, an empty one."""
    request_id = [] if response.request_id is None else [(b"x-request-id", response.request_id)]
    cached = [] if response.cached is None else [(b"x-cache", response.cached)]
    timing = [] if response.timing is None else [(b"server-timing", response.timing)]
    trace = [] if response.trace is None else [(b"traceresponse", response.trace)]
    headers = [*response.headers, *request_id, *cached, *timing, *trace, *more_headers]
    if response.status not in wire.BODILESS:
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = response.body if wire.has_body(method, response.status) else b""
    await send({"type": "http.response.body", "body": body, "more_body": more})


def announced_bytes(headers: Sequence[Header]) -> int:
    """The length that the headers of a request announce, or 0."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            # Python reads no number of any length; this many digits are over any limit.
            return int(value[:20])
    return 0
