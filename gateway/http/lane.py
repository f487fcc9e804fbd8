"""The lane: an HTTP protocol for uvicorn, on which predictions have a way of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http.actions import PageHead
from sluice.gateway.http.answer_writer import BARE_500
from sluice.gateway.http.connection import HttpConnection
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.http.unsent import TransportBacklog
from sluice.gateway.http.uvicorn_pages import UvicornPage, UvicornPages
from sluice.gateway.messages import DataPlane, Header

_logger = logging.getLogger("sluice.http")


def _never() -> bool:
    return False


def make_lane(
    plane: DataPlane[Any],
    limits: ConnectionLimits | None = None,
    draining: Callable[[], bool] = _never,
    held: HeldBytes | None = None,
    budget: ConnectionBudget | None = None,
) -> type[LaneProtocol]:
    """A protocol class for one uvicorn server: `uvicorn.Config(AsgiLane(plane, app), http=make_lane(plane))`.

    Requests whose targets `plane` does not recognise go to the ASGI application. `AsgiLane` recognises a few of them
    after all: those in absolute form. While `draining()` is true, answers close their connection. What is held for
    clients is counted in `held`, and connections in `budget`, which other servers may share.
    """
    bounds = limits or ConnectionLimits()

    class Lane(LaneProtocol):
        __slots__ = ()
        context = HttpServerContext(plane, bounds, draining, held or HeldBytes(bounds.max_buffered_bytes), budget)

    return Lane


class LaneProtocol(asyncio.Protocol):
    """The adapter between a transport, uvicorn's server and an `HttpConnection`, which decides everything.

    Each prediction is answered by a task of its own, which is cancelled when the client goes (an EOF or a reset).
    """

    __slots__ = (
        "_answer_plane",
        "_app_state",
        "_config",
        "_held",
        "_loop",
        "_server_state",
        "_task",
        "connection",
        "flow",
        "pages",
        "transport",
    )

    context: ClassVar[HttpServerContext]
    connection: HttpConnection
    flow: FlowControl
    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_event_loop()
        self._held = self.context.held
        self._answer_plane = self.context.plane.answer
        self._task: asyncio.Task[None] | None = None
        self.pages: UvicornPages | None = None

    # What the transport calls.

    # asyncio declares `BaseTransport`; servers are given a `Transport`.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; where too many are open, end it."""
        context, now = self.context, self._loop.time()
        backlog = TransportBacklog(transport)
        if not backlog.hidden:
            # The transport is to tell of every answer that the kernel does not take whole, however short it is.
            transport.set_write_buffer_limits(high=1, low=0)
        self.transport = transport
        self.flow = FlowControl(transport)
        keep_alive_s = float(self._config.timeout_keep_alive)
        self.connection = HttpConnection(
            context, self, transport, self.flow, backlog, self._server_state, keep_alive_s, now
        )
        connections = self._server_state.connections
        connections.add(self)  # type: ignore[arg-type]  # the server calls nothing of it but `shutdown`
        context.enter(self.connection.life, self._loop, keep_alive_s)
        if (surplus := context.surplus(len(connections))) > 0:
            self.connection.turn_away(surplus, now)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the connection."""
        self.connection.receive(data, self._loop.time())

    def pause_writing(self) -> None:
        """The kernel does not take what was written."""
        self.flow.pause_writing()
        self.connection.writing_paused(self._loop.time())

    def resume_writing(self) -> None:
        """The kernel has taken what was written."""
        self.flow.resume_writing()
        self.connection.writing_resumed(self._loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is being worked out for the client, and give the place back."""
        self.connection.lost()
        if self._task is not None and self._task in self._server_state.tasks:
            # A task that is cancelled before its first step never runs, and cannot leave the set by itself.
            self._task.add_done_callback(self._server_state.tasks.discard)
            self._task.cancel()
        if self.pages is not None:
            self.pages.connection_lost(exc)
        self._leave()

    # What uvicorn's server calls.

    def shutdown(self) -> None:
        """The server stops: let the connection end in an orderly way."""
        self.connection.shutdown(self._loop.time())

    # What the connection calls: `actions.ConnectionHost`.

    def begin(self, prediction: Prediction) -> None:
        """Start the task that answers a prediction."""
        self._task = task = self._loop.create_task(self._answer(prediction))
        self._server_state.tasks.add(task)

    def open_page(self, head: PageHead) -> UvicornPage:
        """Make the ASGI call of a request that is no prediction."""
        return (self.pages or self._make_pages()).open(head)

    def speaks(self, headers: Sequence[Header]) -> bool:
        """Whether the protocol that these headers ask to upgrade to is spoken here."""
        return (self.pages or self._make_pages()).speaks(headers)

    def upgrade(self, head: PageHead) -> None:
        """Hand the transport over to that protocol."""
        self._leave()
        (self.pages or self._make_pages()).upgrade(head)

    async def _answer(self, prediction: Prediction) -> None:
        task = self._task
        try:
            if self._held.over:
                response = self.connection.crowded(prediction)
            else:
                response = await self._answer_plane(
                    prediction.route,
                    prediction.method,
                    prediction.headers,
                    self.connection.hand_over(prediction),
                    prediction.came_s,
                )
        except asyncio.CancelledError:
            if task is not None and task.cancelling():
                if not self.transport.is_closing():
                    self.connection.given_up(prediction)
                raise
            _logger.exception("a prediction was given up from within")
            response = BARE_500
        except Exception:
            _logger.exception("a prediction raised an unexpected error")
            response = BARE_500
        finally:
            if task is not None:
                self._server_state.tasks.discard(task)
        if not self.transport.is_closing():
            self._server_state.total_requests += 1
            self.connection.answered(prediction, response, self._loop.time())

    def _make_pages(self) -> UvicornPages:
        self.pages = UvicornPages(
            self._config,
            self._server_state,
            self._app_state,
            self._loop,
            self.transport,
            self.flow,
            self.connection,
        )
        return self.pages

    def _leave(self) -> None:
        self._server_state.connections.discard(self)
        self.context.leave(self.connection.life)
