"""Requests that are no predictions, served by uvicorn's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from sluice.gateway.http import wire
from sluice.gateway.http.actions import PageHead
from sluice.gateway.http.connection import HttpConnection
from sluice.gateway.messages import Header


class UvicornPages(HttpToolsProtocol):
    """Makes and runs the ASGI calls of one connection.

    uvicorn's protocol without its reading, ordering and closing, which are the connection's. It is no protocol of the
    transport: its owner tells it what comes in, and `connection_lost`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        flow: FlowControl,
        connection: HttpConnection,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.transport = transport
        self.flow = flow
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._connection = connection
        self._page_transport = _PageTransport(transport, connection, loop)
        self._opened: UvicornPage | None = None

    def open(self, head: PageHead) -> UvicornPage:
        """Make the ASGI call of a request, which begins with `UvicornPage.start`."""
        self._parse_as(head)
        opened, self._opened = self._opened, None
        if opened is None:
            raise RuntimeError("uvicorn has begun no request")
        return opened

    def speaks(self, headers: Sequence[Header]) -> bool:
        """Whether the protocol that these headers ask to upgrade to is spoken here."""
        self.headers = list(headers)
        return self._should_upgrade()

    def upgrade(self, head: PageHead) -> None:
        """Hand the transport over to the protocol that was asked for: WebSocket is the only one."""
        self._parse_as(head)
        self.handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """Count an answer. uvicorn's own method would read on while requests wait, and set a timer per request."""
        self.server_state.total_requests += 1
        self._connection.page_answered(self.loop.time())

    def _parse_as(self, head: PageHead) -> None:
        self.parser = head.parser
        self.on_message_begin()
        self.url = head.target
        self.headers += head.headers
        self.expect_100_continue = head.expects_continue
        # Whether a call may begin is for the connection to say, not for the state of the one before.
        self.cycle = None  # type: ignore[assignment]  # as uvicorn itself begins
        self.on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.transport = self._page_transport  # type: ignore[assignment]  # a cycle uses no more of it than this
        self._opened = UvicornPage(self, cycle, app)


class UvicornPage:
    """One request on its way through an ASGI application. Implements `actions.Page`."""

    __slots__ = ("_app", "_cycle", "_pages")

    def __init__(self, pages: UvicornPages, cycle: RequestResponseCycle, app: Any) -> None:
        self._pages = pages
        self._cycle = cycle
        self._app = app

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after the answer."""
        return self._cycle.keep_alive

    @keep_alive.setter
    def keep_alive(self, keep_alive: bool) -> None:
        self._cycle.keep_alive = keep_alive

    @property
    def answer_begun(self) -> bool:
        """Whether a part of the answer is written."""
        return self._cycle.response_started

    @property
    def answered(self) -> bool:
        """Whether the answer is written to its end."""
        return self._cycle.response_complete

    @property
    def body_bytes(self) -> int:
        """How much of the body has come in and is not read yet."""
        return len(self._cycle.body)

    def start(self) -> None:
        """Begin the ASGI call, in a task of its own."""
        HttpToolsProtocol._start_asgi_task(self._pages, self._cycle, self._app)

    def receive(self, body: bytes) -> None:
        """Take a piece of the body. Reading is paused once much of it waits."""
        self._pages.on_body(body)

    def body_complete(self) -> None:
        """No more of the body follows."""
        self._pages.on_message_complete()

    def forget_body(self) -> None:
        """Drop what is left of the body once the request is answered."""
        self._cycle.body = bytearray()

    def disconnect(self) -> None:
        """Tell the application that its client has gone."""
        self._cycle.disconnected = True
        self._cycle.message_event.set()


class _PageTransport:
    """Stands where a `RequestResponseCycle` has the transport, and has all that it uses of one.

    To end the connection is for the connection itself: closed at once, a client that still sends sees a reset.
    """

    __slots__ = ("_connection", "_loop", "_transport")

    def __init__(
        self, transport: asyncio.Transport, connection: HttpConnection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._loop = loop

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        if len(data) > wire.JOINED_BYTES:
            self._connection.page_writes(len(data))
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection once everything written has been sent."""
        if not self._transport.is_closing():
            self._connection.page_closes(self._loop.time())
