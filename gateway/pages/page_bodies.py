"""The bodies that pages take: short ones, whatever the page does with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import LaneLimits
from sluice.gateway.http.asgi import announced_bytes, closing, send_response
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import RequestTooLarge, SluiceError

MAX_PAGE_BYTES = 1024 * 1024
"""No page takes more than a few settings or parameters of a model."""


class PageBodies:
    """Holds the bodies that an ASGI application reads to `max_bytes`, and counts them in `held` until it has answered.

    A longer body is refused in the words of `refuse`: at once if its length is announced, whether the page would have
    read it or not, and else as soon as it is too long. What comes of it after that is thrown away, so that the client
    reads the refusal and not a reset, for as long and as far as `limits` let a refused client go on.

    How fast a body has to come, and what becomes of one that a page does not read, is the server's own affair.
    """

    def __init__(
        self,
        app: ASGIApp,
        held: HeldBytes,
        refuse: Callable[[SluiceError], HttpResponse],
        *,
        max_bytes: int = MAX_PAGE_BYTES,
        limits: LaneLimits | None = None,
    ) -> None:
        self._app = app
        self._held = held
        self._refuse = refuse
        self._max_bytes = max_bytes
        self._limits = limits or LaneLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
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
        # A client that waits for `100 Continue` sends nothing after a refusal, and is not to be asked to.
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
    """Ends a page that reads a body that is refused. An `HTTPException`, which no framework takes for a fault."""


class _Taken:
    """What a page has taken of a body, and whether it has begun to answer. A page that was refused answers no more."""

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
