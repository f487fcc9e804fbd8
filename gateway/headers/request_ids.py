"""Request ids: taken from `X-Request-Id` or made here, put on every answer and every log line."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.gateway.messages import Header

REQUEST_ID = b"x-request-id"
_ACCEPTABLE = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestIds:
    """Knows the id of a request, making one where the caller gave none. The ids made are unique across processes."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode("ascii")
        self._count = itertools.count(1)

    def of(self, headers: Iterable[Header]) -> bytes:
        """The caller's id if it is 1 to 128 visible ASCII characters, else a new one."""
        for name, value in headers:
            if name == REQUEST_ID and _ACCEPTABLE.fullmatch(value):
                return value
        return b"%b-%x" % (self._prefix, next(self._count))


class RequestIdMiddleware:
    """Puts the request's id on every answer of an ASGI application."""

    def __init__(self, app: ASGIApp, request_ids: RequestIds) -> None:
        self._app = app
        self._request_ids = request_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on; add the header when the answer starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_ids.of(scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)
