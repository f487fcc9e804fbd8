"""A bound on the bodies of requests for pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.asgi import announced_bytes, closing, send_response
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import RequestTooLarge, SluiceError

MAX_PAGE_BYTES = 1024 * 1024
"""The largest body of a request for a page: more than the settings or parameters that any page reads."""


class PageBodies:
    """Bounds the bodies that an ASGI application reads to `max_bytes`, and counts them in `held` until it has answered.

    A longer body is refused with the answer of `refuse`. That happens at once if the request announces its length,
    whether or not the page reads bodies, and otherwise as soon as too much has been read. The rest of the body is then
    read and dropped, so that the client gets the answer and not a connection reset. `limits.linger_s` and
    `limits.linger_bytes` bound this.

    The server bounds how slowly a body may come, and reads a body that the page does not.
    """

    def __init__(
        self,
        app: ASGIApp,
        held: HeldBytes,
        refuse: Callable[[SluiceError], HttpResponse],
        *,
        max_bytes: int = MAX_PAGE_BYTES,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._app = app
        self._held = held
        self._refuse = refuse
        self._max_bytes = max_bytes
        self._limits = limits or ConnectionLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if announced_bytes(scope["headers"]) > self._max_bytes:
            await self._answer(self._too_large(), scope, receive, send)
            return
        taken = _Taken(receive, send, self._admit)
        try:
            await self._app(scope, taken.receive, taken.send)
        except Exception:
            if taken.refused is None or taken.answering:
                raise
        finally:
            self._held.now_bytes -= taken.size_bytes
        if taken.refused is not None and not taken.answering:
            await self._answer(taken.refused, scope, receive, send)

    def _admit(self, taken: _Taken, more_bytes: int) -> SluiceError | None:
        taken.size_bytes += more_bytes
        self._held.now_bytes += more_bytes
        if taken.size_bytes > self._max_bytes:
            return self._too_large()
        if self._held.over:
            return self._held.refusal()
        return None

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body is larger than the limit of {self._max_bytes} bytes for this page")

    async def _answer(self, error: SluiceError, scope: Scope, receive: Receive, send: Send) -> None:
        await send_response(send, scope["method"], self._refuse(error), closing(scope), more=True)
        # A client that waits for `100 Continue` sends no body after a refusal. Reading would ask it for one.
        if not any(name.lower() == b"expect" for name, _ in scope["headers"]):
            await self._discard(receive)
        await send({"type": "http.response.body", "body": b""})

    async def _discard(self, receive: Receive) -> None:
        left_bytes, more = self._limits.linger_bytes, True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while more and left_bytes > 0:
                    message = await receive()
                    left_bytes -= len(message.get("body", b""))
                    more = message.get("more_body", False)


class _RefusedBodyError(HTTPException):
    """Ends a page that reads a refused body. It is an `HTTPException`, which frameworks do not log as a fault."""


class _Taken:
    """Counts what a page reads of a body, and drops the answer of a page whose body was refused."""

    def __init__(self, receive: Receive, send: Send, admit: Callable[[_Taken, int], SluiceError | None]) -> None:
        self._receive = receive
        self._send = send
        self._admit = admit
        self.size_bytes = 0
        self.answering = False
        self.refused: SluiceError | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if (part := message.get("body")) and (error := self._admit(self, len(part))) is not None:
            self.refused = error
        if self.refused is not None:
            raise _RefusedBodyError(400)
        return message

    async def send(self, message: Message) -> None:
        if self.refused is None or self.answering:
            self.answering = True
            await self._send(message)
