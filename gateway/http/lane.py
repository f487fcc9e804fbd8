"""The lane: uvicorn's HTTP protocol, with a way of its own for predictions."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from sluice.gateway.connections.connection_budget import ConnectionBudget
from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import LaneLimits
from sluice.gateway.connections.long_body import LARGE_BYTES, LongBody
from sluice.gateway.http import wire
from sluice.gateway.http.answers import Answers
from sluice.gateway.http.connection import BODY, HEAD, NOTHING, UPGRADE
from sluice.gateway.http.page_transport import PageTransport
from sluice.gateway.http.prediction import Prediction, expects_continue
from sluice.gateway.http.request_targets import origin_form
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import DataPlane, Header
from sluice.inference.errors import RequestTooLarge

_logger = logging.getLogger("sluice.http")

_SLICE_BYTES = 4096
"""Bytes that are parsed in one go, so that one read never queues more than some two hundred pipelined requests."""

_LONG_BYTES = 64 * 1024
"""A body that still lacks this much does not pass through the parser, which would copy it once more."""


def _never() -> bool:
    return False


def make_lane(
    plane: DataPlane[Any],
    limits: LaneLimits | None = None,
    draining: Callable[[], bool] = _never,
    held: HeldBytes | None = None,
    budget: ConnectionBudget | None = None,
) -> type[LaneProtocol]:
    """A protocol class for one uvicorn server: `uvicorn.Config(AsgiLane(plane, app), http=make_lane(plane))`.

    What the lane does not recognise goes to the ASGI application (a target in absolute form, for one, which
    `AsgiLane` then knows). While `draining()` is true, answers close their connection. What is held
    is counted in `held`, and connections in `budget`, which other doors may share.
    """
    bounds = limits or LaneLimits()

    class Lane(LaneProtocol):
        __slots__ = ()
        door = HttpServerContext(plane, bounds, draining, held or HeldBytes(bounds.max_buffered_bytes), budget)

    return Lane


class LaneProtocol(Answers):
    """One connection.

    A prediction is recognised when its headers are complete; its body is gathered up to `max_body_bytes`, one task
    runs `plane.answer`, and the answer is written straight to the transport. Everything else takes uvicorn's way.

    Requests are answered in the order in which they came. While one waits behind another nothing more is read, and
    what has been read already (at most one read of the socket) is parsed slice by slice as the queue empties.

    An EOF or a reset by the client cancels the task. A request that breaks HTTP or a limit is refused when its turn
    has come and ends the connection: where it ends and the next one begins is anybody's guess (RFC 9112, section 11.2).
    """

    __slots__ = (
        "_head_slack_bytes",
        "_known_heads",
        "_max_body_bytes",
        "_max_headers",
        "_quiet_bytes",
        "_reading",
        "_recognise",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        plane, limits = self.door.plane, self.door.limits
        self._recognise = plane.recognise
        self._max_body_bytes = plane.max_body_bytes
        self._max_headers = limits.max_headers
        self._known_heads = self.door.known_heads
        # A head whose slices before the last are within this is within the limit: no need to weigh it.
        self._head_slack_bytes = limits.max_header_bytes - 2 * _SLICE_BYTES
        # Bytes parsed since the last byte of a body, or since a request began; -1: that was in this very slice.
        self._quiet_bytes = -1
        # A request is incomplete, and its deadline runs.
        self._reading = False

    # From the socket to the parser.

    def data_received(self, data: bytes) -> None:
        """Parse at once what is short and may be parsed; keep the rest."""
        if self._held or len(data) > _SLICE_BYTES:
            self._store(data)
        elif self._stage != NOTHING or self._current is not None:
            self._feed(data)
        elif (prediction := self._known_heads.complete(data)) is not None:
            self.deadline = math.inf
            prediction.came_s = self.door.loop_turns.came_s(self.loop.time())
            self._take_place(prediction)
            self._begin(prediction)
        else:
            self._feed(data)
            if self._stage == NOTHING and isinstance(self._current, Prediction):
                self._known_heads.learn(data, self._current)

    def _store(self, data: bytes) -> None:
        """Keep what may not be parsed yet, or not all at once."""
        if self._ended:
            self._discard(len(data))
            return
        if self._long_body is not None:
            self._fill(self._long_body, data)
            return
        self._unread = memoryview(bytes(self._unread) + data) if self._unread else memoryview(data)
        self._count()
        self._parse_unread()
        if self._unread:
            self.flow.pause_reading()
            self._refuse_if_crowded()

    def _parse_unread(self) -> None:
        while self._unread and not self._held:
            # A body of known length needs no slices: no request can hide in it.
            size_bytes = max(_SLICE_BYTES, self._filling.left_bytes if self._filling is not None else 0)
            piece, self._unread = self._unread[:size_bytes], self._unread[size_bytes:]
            self._feed(piece)
        if self._long_body is not None and self._unread:
            rest, self._unread = self._unread, memoryview(b"")
            self._fill(self._long_body, rest)
        elif self._counted_bytes:
            self._count()

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._on_upgrade(bytes(data[upgrade.args[0] :]))
            return
        except httptools.HttpParserError as error:
            self._on_error(error)
        if self._stage and not self._ended:
            self._on_incomplete(len(data))

    def _fill(self, long_body: LongBody, data: bytes | memoryview) -> None:
        """Take the bytes of a long body as they are. Its end is known, and so the parser has no part in it."""
        rest = long_body.take(data)
        self._count()
        self._refuse_if_crowded()
        if not long_body.left_bytes and self._filling is not None:
            self._filling.body = long_body.whole() if len(long_body) < LARGE_BYTES else long_body
            self._long_body = None
            self._held = False
            # The old parser still waits for the body; a new one is in the state that it would have come to.
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            if rest:
                self.data_received(bytes(rest))

    # What the parser says.

    def on_message_begin(self) -> None:
        """Forget the request before. What uvicorn builds here is built when it turns out to be needed."""
        if self._ended:
            raise _EndedError
        self.url = b""
        self.headers = []
        self._stage = HEAD
        self._quiet_bytes = -1

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what it means is looked up for the few requests for which it matters."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Tell a prediction from everything else, and give it its place in the order."""
        parser = self.parser
        if self._quiet_bytes > self._head_slack_bytes or len(self.headers) > self._max_headers:
            self._weigh_head()
        self._quiet_bytes = -1
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._stage = UPGRADE
            if self._should_upgrade():
                self._take_ordinary_way()
            return
        route = self._recognise(self.url)
        if route is None:
            self._take_ordinary_way()
            self.cycle.transport = PageTransport(self.transport, self.note_long, self._finish)  # type: ignore[assignment]
            self.cycle.keep_alive = self.cycle.keep_alive and not (self._leaving or self.door.draining())
            if self.pipeline:
                self._waiting_pages += 1
                self._hold()
        else:
            keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
            self._filling = prediction = Prediction(
                route, parser.get_method().decode("ascii"), self.headers, keep_alive
            )
            self._take_place(prediction)
        self._stage = BODY
        # Trailers are no headers: they land in a list that nobody reads.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Gather a prediction's body, up to the limit."""
        self._quiet_bytes = -1
        prediction = self._filling
        if prediction is None:
            self._page_bytes += len(body)
            super().on_body(body)
            return
        prediction.left_bytes -= len(body)
        assert not isinstance(prediction.body, LongBody)
        if not prediction.body:
            prediction.body = body
        elif isinstance(prediction.body, bytes):
            prediction.body = bytearray().join((prediction.body, body))
        else:
            prediction.body += body
        if len(prediction.body) > self._max_body_bytes:
            self._refuse_large(prediction)
            raise _EndedError

    def on_message_complete(self) -> None:
        """Begin the answer, if it is its turn."""
        if self._stage == UPGRADE:
            return
        self._stage = NOTHING
        self._reading = False
        self.deadline = math.inf
        prediction = self._filling
        if prediction is None:
            super().on_message_complete()
            if self._current is None:
                # FastAPI has answered without waiting for the body.
                self._settle()
        else:
            self._filling = None
            prediction.received = True
            prediction.came_s = self.door.loop_turns.came_s(self.loop.time())
            if prediction is self._current:
                self._begin(prediction)
        if not self.cycle.keep_alive:
            self._end()

    # What is rare.

    def _take_ordinary_way(self) -> None:
        """Build what uvicorn builds when a request begins, and let it go on from there."""
        headers = self.headers
        url = origin_form(self.url)
        if url is None:
            self._refuse(wire.plain(400, "The request target is no path; expected one such as /v2/models."))
            raise _EndedError
        self._page_bytes = self._page_timed_bytes = 0
        super().on_message_begin()
        self.url = url
        self.headers += headers
        self.expect_100_continue = expects_continue(self.parser.get_http_version(), headers)
        super().on_headers_complete()

    def _weigh_head(self) -> None:
        head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if head_bytes > self.door.limits.max_header_bytes or len(self.headers) > self._max_headers:
            self._refuse_head()
            raise _EndedError

    def _on_incomplete(self, fed_bytes: int) -> None:
        """A slice is parsed, and the request in it is not complete."""
        self._quiet_bytes = self._quiet_bytes + fed_bytes if self._quiet_bytes >= 0 else 0
        if self._quiet_bytes > self.door.limits.max_header_bytes or len(self.headers) > self._max_headers:
            self._refuse_head()
            return
        if self._stage == HEAD:
            self._head_bytes = self._quiet_bytes
        prediction = self._filling
        if prediction is not None and not prediction.examined:
            if prediction.examine(self.parser.get_http_version()) > self._max_body_bytes:
                self._refuse_large(prediction)
                return
            if prediction is self._current:
                self._invite(prediction)
        if self._stage == BODY or self._head_bytes:
            self._count()
            self._refuse_if_crowded()
            if self._stage == BODY and prediction is None and not self._ended:
                self._bound_unwanted()
            if self._ended:
                return
        if not self._reading:
            self._reading = True
            self._settle()

    def _bound_unwanted(self) -> None:
        """A page that has answered without reading its body leaves the rest of it to be thrown away, up to a bound."""
        if self.cycle.response_complete and self._page_bytes > self.door.limits.linger_bytes:
            self._linger()

    def _invite(self, prediction: Prediction) -> None:
        """The body is wanted, and this is its turn."""
        if prediction.expects_continue:
            self.transport.write(wire.CONTINUE)
        if prediction.left_bytes >= _LONG_BYTES:
            assert not isinstance(prediction.body, LongBody)
            self._long_body = LongBody(prediction.body, prediction.left_bytes)
            self._held = True

    def _on_upgrade(self, rest: bytes) -> None:
        """A head has asked for another protocol. One that is not spoken here may be ignored (RFC 9110, section 7.8)."""
        if self._stage != UPGRADE:
            self._end()
        elif not self._should_upgrade():
            self._stage = NOTHING
            plain = _without_upgrade(self.parser, self.url, self.headers)
            # After a request of HTTP/1.0, the old one expects no other.
            self.parser = httptools.HttpRequestParser(self)
            self._feed(plain + rest)
        elif self._current is None:
            self._stage = NOTHING
            self.deadline = math.inf
            self.handle_websocket_upgrade()
        else:
            self._refuse(wire.plain(400, "An upgrade cannot be asked for while another request is unanswered."))

    def _on_error(self, error: httptools.HttpParserError) -> None:
        if self._ended:
            return
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, httptools.HttpParserError):
            self.door.log_fault(_logger, logging.ERROR, "a request could not be taken in", cause)
            self._refuse(wire.plain(500, "Internal Server Error"))
        else:
            self.door.log_fault(self.logger, logging.WARNING, "Invalid HTTP request received.")
            self._refuse(wire.plain(400, "Invalid HTTP request received."))

    def _refuse_head(self) -> None:
        limits = self.door.limits
        text = (
            f"The request line and headers are over the limit of {limits.max_header_bytes} bytes"
            f" or {limits.max_headers} headers."
        )
        self._refuse(wire.plain(431, text))

    def _refuse_large(self, prediction: Prediction) -> None:
        error = RequestTooLarge(
            f"the body is larger than the limit of {self._max_body_bytes} bytes (server.max_body_bytes)"
        )
        self._refuse(self.door.plane.refuse(prediction.route, prediction.headers, error))


class _EndedError(Exception):
    """Makes the parser stop: nothing after this belongs to a request."""


def _without_upgrade(parser: httptools.HttpRequestParser, url: bytes, headers: list[Header]) -> bytes:
    line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), url, parser.get_http_version().encode("ascii"))
    kept = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join([line, *kept, b"\r\n"])
