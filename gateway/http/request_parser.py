"""Requests out of the bytes of one connection, parsed and bounded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import httptools

from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.http import wire
from sluice.gateway.http.actions import Page, PageHead
from sluice.gateway.http.prediction import Prediction, expects_continue
from sluice.gateway.http.request_targets import origin_form
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import RequestTooLarge

_logger = logging.getLogger("sluice.http")
_uvicorn_logger = logging.getLogger("uvicorn.error")

NOTHING, HEAD, BODY, UPGRADE = range(4)
"""What is coming in. `UPGRADE`: a complete head that asks for another protocol."""

SLICE_BYTES = 4096
"""Bytes that are parsed in one go, so that one read never queues more than some two hundred pipelined requests."""


class ParsedRequests(Protocol):
    """Whoever a `RequestParser` tells what it finds, while it is fed."""

    def prediction_begins(self, prediction: Prediction) -> None:
        """The head of a prediction is complete; its body may follow."""

    def body_announced(self, prediction: Prediction) -> None:
        """Not all of the body has come with the head. `left_bytes` and `expects_continue` are known."""

    def prediction_complete(self, prediction: Prediction) -> None:
        """The body is complete."""

    def page_begins(self, head: PageHead) -> Page:
        """The head of any other request is complete. Returns what takes its body."""

    def page_complete(self, page: Page) -> None:
        """The body is complete."""

    def incomplete(self) -> None:
        """All that was fed is parsed, and the last request in it is not complete."""

    def refuse(self, response: HttpResponse) -> None:
        """What came last is answered with this, in its turn, and ends the connection."""

    def end(self) -> None:
        """No request follows any more."""

    def speaks(self, headers: Sequence[Header]) -> bool:
        """Whether the protocol that these headers ask to upgrade to is spoken here."""

    def upgrade(self, head: PageHead) -> None:
        """The client goes on in that protocol."""


class RequestParser:
    """Tells predictions from pages when a head is complete, gathers bodies, and bounds both.

    A prediction's body may have the plane's `max_body_bytes`. A request that breaks HTTP or a limit is the last one:
    where it ends and the next one begins is not known (RFC 9112, section 11.2).
    """

    __slots__ = (
        "_context",
        "_headers",
        "_max_body_bytes",
        "_max_headers",
        "_quiet_bytes",
        "_requests",
        "_sound_head_bytes",
        "_url",
        "ended",
        "filling",
        "head_bytes",
        "http",
        "page",
        "page_bytes",
        "stage",
    )

    def __init__(self, context: HttpServerContext, requests: ParsedRequests) -> None:
        self._context = context
        self._requests = requests
        self._max_body_bytes = context.plane.max_body_bytes
        self._max_headers = context.limits.max_headers
        # A head whose slices before the last are within this is within the limit: its size need not be summed up.
        self._sound_head_bytes = context.limits.max_header_bytes - 2 * SLICE_BYTES
        self.http = self._new_parser()
        self._url = b""
        self._headers: list[Header] = []
        self.stage = NOTHING
        # The prediction or the page whose body is coming in.
        self.filling: Prediction | None = None
        self.page: Page | None = None
        # How much of the page's body has come.
        self.page_bytes = 0
        # What has come of a head that is too long for one slice, until its request is answered.
        self.head_bytes = 0
        # Nothing more is a request.
        self.ended = False
        # Bytes parsed since the last byte of a body, or since a request began; -1: that was in this very slice.
        self._quiet_bytes = -1

    def feed(self, data: bytes | memoryview) -> None:
        """Parse at most `SLICE_BYTES`, or what a body lacks."""
        try:
            self.http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._on_upgrade(bytes(data[upgrade.args[0] :]))
            return
        except httptools.HttpParserError as error:
            self._on_error(error)
        if self.stage and not self.ended:
            self._on_incomplete(len(data))

    def finish_body(self, body: LongBody | bytes) -> None:
        """The body of the prediction that is coming in has come another way."""
        if self.filling is not None:
            self.filling.body = body
        # The old parser still waits for the body; a new one is in the state that it would have come to.
        self.http = self._new_parser()
        self.on_message_complete()

    def forget_request(self) -> None:
        """Give up the request that is coming in."""
        self.stage = NOTHING
        self.filling = self.page = None

    def close(self) -> None:
        """Let go of the connection, so that nothing of it waits for the garbage collector. The last call."""
        self.ended = True
        self.forget_request()
        del self._requests, self.http

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Forget the request before."""
        if self.ended:
            raise _EndedError
        self._url = b""
        self._headers = []
        self.stage = HEAD
        self._quiet_bytes = -1

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what it means is looked up for the few requests for which it matters."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Tell a prediction from everything else."""
        parser = self.http
        if self._quiet_bytes > self._sound_head_bytes or len(self._headers) > self._max_headers:
            self._check_head_size()
        self._quiet_bytes = -1
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self.stage = UPGRADE
            return
        route = self._context.plane.recognise(self._url)
        if route is None:
            self.page_bytes = 0
            self.page = self._requests.page_begins(self._page_head())
        else:
            keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
            self.filling = Prediction(route, parser.get_method().decode("ascii"), self._headers, keep_alive)
            self._requests.prediction_begins(self.filling)
        self.stage = BODY
        # Trailers are no headers: they land in a list that nobody reads.
        self._headers = []

    def on_body(self, body: bytes) -> None:
        """Gather a prediction's body, up to the limit; hand a page's on."""
        self._quiet_bytes = -1
        prediction = self.filling
        if prediction is None:
            if self.page is not None:
                self.page_bytes += len(body)
                self.page.receive(body)
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
        """Tell that the request that was coming in is complete."""
        if self.stage == UPGRADE:
            return
        self.stage = NOTHING
        prediction, page = self.filling, self.page
        self.filling = self.page = None
        if prediction is not None:
            self._requests.prediction_complete(prediction)
        elif page is not None:
            self._requests.page_complete(page)

    # What is rare.

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows the last request is thrown away, not answered as broken HTTP.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _page_head(self) -> PageHead:
        target = origin_form(self._url)
        if target is None:
            self._requests.refuse(wire.plain(400, "The request target is no path; expected one such as /v2/models."))
            raise _EndedError
        expects = expects_continue(self.http.get_http_version(), self._headers)
        return PageHead(target, self._headers, expects, self.http)

    def _check_head_size(self) -> None:
        head_bytes = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if head_bytes > self._context.limits.max_header_bytes or len(self._headers) > self._max_headers:
            self._refuse_head()
            raise _EndedError

    def _on_incomplete(self, fed_bytes: int) -> None:
        """A slice is parsed, and the request in it is not complete."""
        self._quiet_bytes = self._quiet_bytes + fed_bytes if self._quiet_bytes >= 0 else 0
        if self._quiet_bytes > self._context.limits.max_header_bytes or len(self._headers) > self._max_headers:
            self._refuse_head()
            return
        if self.stage == HEAD:
            self.head_bytes = self._quiet_bytes
        prediction = self.filling
        if prediction is not None and not prediction.examined:
            if prediction.examine(self.http.get_http_version()) > self._max_body_bytes:
                self._refuse_large(prediction)
                return
            self._requests.body_announced(prediction)
        self._requests.incomplete()

    def _on_upgrade(self, rest: bytes) -> None:
        """A head has asked for another protocol. One that is not spoken here may be ignored (RFC 9110, section 7.8)."""
        if self.stage != UPGRADE:
            self._requests.end()
        elif self._requests.speaks(self._headers):
            try:
                head = self._page_head()
            except _EndedError:
                return
            self.stage = NOTHING
            self._requests.upgrade(head)
        else:
            self.stage = NOTHING
            plain = _without_upgrade(self.http, self._url, self._headers)
            # After a request of HTTP/1.0, the old one expects no other.
            self.http = self._new_parser()
            self.feed(plain + rest)

    def _on_error(self, error: httptools.HttpParserError) -> None:
        if self.ended:
            return
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, httptools.HttpParserError):
            self._context.faults.error(_logger, "a request could not be taken in", cause)
            self._requests.refuse(wire.plain(500, "Internal Server Error"))
        else:
            self._context.faults.warn(_uvicorn_logger, "Invalid HTTP request received.")
            self._requests.refuse(wire.plain(400, "Invalid HTTP request received."))

    def _refuse_head(self) -> None:
        limits = self._context.limits
        text = (
            f"The request line and headers are over the limit of {limits.max_header_bytes} bytes"
            f" or {limits.max_headers} headers."
        )
        self._requests.refuse(wire.plain(431, text))

    def _refuse_large(self, prediction: Prediction) -> None:
        error = RequestTooLarge(
            f"the body is larger than the limit of {self._max_body_bytes} bytes (server.max_body_bytes)"
        )
        self._requests.refuse(self._context.plane.refuse(prediction.route, prediction.headers, error))


class _EndedError(Exception):
    """Makes the parser stop: nothing after this belongs to a request."""


def _without_upgrade(parser: httptools.HttpRequestParser, url: bytes, headers: Sequence[Header]) -> bytes:
    line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), url, parser.get_http_version().encode("ascii"))
    kept = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join([line, *kept, b"\r\n"])
