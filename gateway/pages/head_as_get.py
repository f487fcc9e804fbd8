"""HEAD on every page: the answer to GET without its body (RFC 9110, section 9.3.2)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

GET_ONLY_HEADERS = frozenset({b"range", b"if-range"})
"""Headers that only GET has (RFC 9110, section 14.2)."""

_ALLOW = b"allow"


class HeadAsGet:
    """Makes an ASGI application answer HEAD as it answers GET, with the same status and headers but without the body.

    `content-length` is that of the answer to GET. Where a 405 allows GET, it allows HEAD, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_allowing(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                message = {
                    **message,
                    "headers": [_with_head(name, value) for name, value in message.get("headers", ())],
                }
            await send(message)

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send_allowing(message)

        if scope["method"] == "HEAD":
            # Without extensions the application sends files in messages, whose bodies can be removed here.
            kept = [header for header in scope["headers"] if header[0].lower() not in GET_ONLY_HEADERS]
            scope = {**scope, "method": "GET", "headers": kept, "extensions": {}}
            await self._app(scope, receive, send_headers)
        else:
            await self._app(scope, receive, send_allowing)


def _with_head(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if name.lower() != _ALLOW:
        return name, value
    methods = [each.strip() for each in value.split(b",") if each.strip()]
    if b"GET" in methods and b"HEAD" not in methods:
        methods.append(b"HEAD")
    return name, b", ".join(sorted(methods))
