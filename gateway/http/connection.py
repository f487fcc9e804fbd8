"""One connection as a state machine: what happens on it goes in, what is to be done comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sluice.gateway.connections.limits import surplus_connections
from sluice.gateway.connections.long_body import LARGE_BYTES
from sluice.gateway.http import wire
from sluice.gateway.http.actions import Backlog, ClientStream, ConnectionHost, Flow, Page, PageHead, ServerHeaders
from sluice.gateway.http.answer_writer import AnswerWriter
from sluice.gateway.http.lifetime import HttpLifetime
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.request_feed import RequestFeed
from sluice.gateway.http.request_order import RequestOrder
from sluice.gateway.http.request_parser import BODY, NOTHING, SLICE_BYTES, RequestParser
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import Body, Header, HttpResponse

_FULL = wire.plain(503, "Too many connections.")
_CROWDED = wire.plain(503, "Too much is being read at once.", (b"retry-after", b"1"))
_STOPPING = wire.plain(503, "The server is stopping.")


class HttpConnection:
    """The requests of one connection, predictions and pages, and their answers.

    It does no I/O and has no clock: it is told of all that happens, with the time of it (`now`, in seconds of one
    clock), and acts on the interfaces of `actions`. All calls come from one thread; `writing_paused` alone may come
    while another call lasts, from within `ClientStream.write`.

    Requests are answered in the order in which they came. While one waits behind another nothing more is read, and
    nothing is begun while the client does not take the answer before. A request that breaks HTTP or a limit is refused
    when its turn has come, and ends the connection.
    """

    __slots__ = (
        "_context",
        "_flow",
        "_head_cache",
        "_host",
        "_stream",
        "_writer",
        "feed",
        "leaving",
        "life",
        "order",
        "parser",
    )

    def __init__(
        self,
        context: HttpServerContext,
        host: ConnectionHost,
        stream: ClientStream,
        flow: Flow,
        backlog: Backlog,
        server: ServerHeaders,
        keep_alive_s: float,
        now: float,
    ) -> None:
        self._context = context
        self._host = host
        self._stream = stream
        self._flow = flow
        self._head_cache = context.head_cache
        self.parser = RequestParser(context, self)
        self.feed = RequestFeed(self.parser, self, flow)
        self._writer = AnswerWriter(stream, backlog, context.heads, server)
        self.order = RequestOrder()
        # The server stops: the next answer is the last.
        self.leaving = False
        self.life = HttpLifetime(
            context, stream, flow, backlog, self.feed, self.order, self._writer, self.refuse, keep_alive_s, now
        )

    # What happens on the client's side.

    def turn_away(self, surplus: int, now: float) -> None:
        """Say that there are so many connections too many, and end. Called before anything else, or not at all."""
        self.life.now = now
        if surplus > surplus_connections(self._context.limits.max_connections):
            # So many that even telling them would be a burden.
            self._stream.abort()
        else:
            self._writer.write("GET", _FULL, wire.CLOSE)
            self.life.linger()

    def receive(self, data: bytes, now: float) -> None:
        """The client has sent this."""
        self.life.now = now
        parser, order = self.parser, self.order
        if parser.stage != NOTHING or order.current is not None or self.feed.held or len(data) > SLICE_BYTES:
            self.feed.receive(data)
        elif (prediction := self._head_cache.complete(data)) is not None:
            self.life.deadline = math.inf
            prediction.came_s = self._context.loop_turns.came_s(now)
            order.current = prediction
            self._host.begin(prediction)
        else:
            parser.feed(data)
            if parser.stage == NOTHING and isinstance(order.current, Prediction):
                self._head_cache.learn(data, order.current)

    def writing_paused(self, now: float) -> None:
        """The client reads too slowly: from now on it has to make progress."""
        self.life.now = now
        self.life.count()
        self.life.settle()

    def writing_resumed(self, now: float) -> None:
        """The client has read on: begin what was held back."""
        self.life.now = now
        self._writer.taken()
        self.life.count()
        if self.order.current is None and not self.life.lingering and not self._stream.is_closing():
            self._advance()
        else:
            self.life.settle()

    def lost(self) -> None:
        """The client has gone. Forget what waits; the host has to stop the answer that it works on."""
        if self.order.current is not None and not isinstance(self.order.current, Prediction):
            self.order.current.disconnect()
        self.order.clear()
        self.life.close()
        del self._host

    # What happens on the server's side.

    def hand_over(self, prediction: Prediction) -> Body:
        """The body of a prediction that is about to be answered; one of `LARGE_BYTES` is not kept here any more."""
        body = prediction.body
        if len(body) >= LARGE_BYTES:
            # It is the plane's alone from here on: it counts it, and lets it go.
            prediction.body = b""
            self.life.count_again()
        return body

    def crowded(self, prediction: Prediction) -> HttpResponse:
        """The refusal of a prediction while all connections together hold too much."""
        context = self._context
        return context.plane.refuse(prediction.route, prediction.headers, context.held.refusal())

    def answered(self, prediction: Prediction, response: HttpResponse, now: float) -> None:
        """The answer to the prediction that was begun last. Not called once the stream is closing."""
        self.life.now = now
        self.order.current = None
        if self.life.share.size_bytes:
            self.parser.head_bytes = 0
            self.life.count()
        if not prediction.keep_alive or ((self.leaving or self._context.draining()) and not self.order.waiting):
            self._writer.write(prediction.method, response, wire.CLOSE)
            self.life.finish()
            return
        self._writer.write(prediction.method, response, b"")
        if self.feed.held or self.parser.stage or self._flow.write_paused:
            self._advance()
        else:
            self.life.answer_written()

    def given_up(self, prediction: Prediction) -> None:
        """The answer was cancelled by the server, which stops. Not called once the stream is closing."""
        self._writer.write(prediction.method, _STOPPING, wire.CLOSE)
        self.life.end_requests()
        self._stream.close()

    def page_writes(self, size_bytes: int) -> None:
        """The current page is about to write this much in one piece, more than `wire.JOINED_BYTES`."""
        self._writer.note_long(size_bytes)

    def page_closes(self, now: float) -> None:
        """The current page's answer is the last. Not called once the stream is closing."""
        self.life.now = now
        self.life.finish()

    def page_answered(self, now: float) -> None:
        """The current page's answer is written."""
        self.life.now = now
        if self.order.current is not None and not isinstance(self.order.current, Prediction):
            self.order.current.forget_body()
        self.order.current = None
        if self.life.share.size_bytes:
            self.parser.head_bytes = 0
            self.life.count()
        if self.life.lingering or self._stream.is_closing():
            self.life.settle()
        else:
            self._advance()

    def shutdown(self, now: float) -> None:
        """Answer what is there and what is on its way, and take nothing more.

        A request may have been sent when the connection looks idle from here, so that it is not closed at once.
        """
        self.life.now = now
        self.leaving = True
        if self.order.current is not None:
            if self.order.last is not None:
                self.order.last.keep_alive = False
            if self.parser.stage != BODY:
                self.life.end_requests()
        elif self.parser.stage == NOTHING and not self.life.lingering:
            self.life.deadline = now + self._context.limits.farewell_s

    # What the parser finds: `request_parser.ParsedRequests`.

    def prediction_begins(self, prediction: Prediction) -> None:
        """Give a prediction its place in the order."""
        if not self.order.take_place(prediction):
            self._hold()

    def body_announced(self, prediction: Prediction) -> None:
        """Ask for the body if the client waits for that, and gather it, if it is its turn."""
        if prediction is self.order.current:
            if prediction.expects_continue:
                self._stream.write(wire.CONTINUE)
            self.feed.gather(prediction)

    def prediction_complete(self, prediction: Prediction) -> None:
        """Begin the answer, if it is its turn."""
        self.life.request_complete()
        prediction.received = True
        prediction.came_s = self._context.loop_turns.came_s(self.life.now)
        if prediction is self.order.current:
            self._host.begin(prediction)
        if not prediction.keep_alive:
            self.life.end_requests()

    def page_begins(self, head: PageHead) -> Page:
        """Give a page its place in the order. It is begun before its body is complete."""
        page = self._host.open_page(head)
        if self.leaving or self._context.draining():
            page.keep_alive = False
        if self.order.take_place(page):
            page.start()
        else:
            self._hold()
        return page

    def page_complete(self, page: Page) -> None:
        """Nothing more is expected of the client for this page."""
        self.life.request_complete()
        page.body_complete()
        if self.order.current is None:
            # It was answered before its body was complete.
            self.life.settle()
        if not page.keep_alive:
            self.life.end_requests()

    def incomplete(self) -> None:
        """Count what has come of a request, and let its time begin."""
        parser = self.parser
        if parser.stage == BODY or parser.head_bytes:
            self.life.count()
            self.refuse_if_crowded()
            page = parser.page
            if page is not None and parser.page_bytes > self._context.limits.linger_bytes and page.answered:
                # A page that has answered without reading its body leaves the rest of it to be thrown away.
                self.life.linger()
            if parser.ended:
                return
        self.life.request_incomplete()

    def refuse(self, response: HttpResponse) -> None:
        """Answer what came last with this when its turn has come, and end the connection."""
        prediction, page = self.parser.filling, self.parser.page
        self.life.end_requests()
        self.parser.forget_request()
        if prediction is not None:
            prediction.refusal = response
            prediction.body = b""
            if prediction is self.order.current:
                self._write_last(prediction, response)
            return
        if page is not None and page is self.order.current:
            page.disconnect()
            if page.answer_begun:
                self._stream.close()
                return
            self.order.current = None
        elif page is not None:
            if page.answered:
                self.life.linger()
                return
            self.order.withdraw_last()
        last = Prediction(None, "", (), False, response)
        self.prediction_begins(last)
        if last is self.order.current:
            self._write_last(last, response)

    def end(self) -> None:
        """The client has said that it sends no further request."""
        self.life.end_requests()

    def speaks(self, headers: Sequence[Header]) -> bool:
        """Whether the protocol that these headers ask to upgrade to is spoken here."""
        return self._host.speaks(headers)

    def upgrade(self, head: PageHead) -> None:
        """Hand the client over, if no answer is due to it."""
        if self.order.current is None:
            self.life.deadline = math.inf
            self._host.upgrade(head)
        else:
            self.refuse(wire.plain(400, "An upgrade cannot be asked for while another request is unanswered."))

    # Whose turn it is.

    def _advance(self) -> None:
        """An answer has been written: go on to the next request."""
        if self._flow.write_paused:
            self._hold()
        else:
            if self.order.waiting:
                self._start_next()
                self.life.count()
            if not self.order.waiting:
                self.feed.release()
                self.life.count_again()
        self.life.settle()

    def _start_next(self) -> None:
        request = self.order.advance()
        if not isinstance(request, Prediction):
            request.start()
        elif request.refusal is not None:
            self._write_last(request, request.refusal)
        elif request.received:
            self._host.begin(request)
        elif request.expects_continue:
            self._stream.write(wire.CONTINUE)

    def _hold(self) -> None:
        self.feed.held = True
        self._flow.pause_reading()
        self.life.count()

    def _write_last(self, prediction: Prediction, response: HttpResponse) -> None:
        """Write the last answer of a connection, on which more may be coming in."""
        if not self._stream.is_closing():
            self._writer.write(prediction.method, response, wire.CLOSE)
            self.order.current = None
            self.life.linger()

    # What the feed keeps: `request_feed.KeptBytes`.

    def count(self) -> None:
        """More bytes are kept than before, or fewer."""
        self.life.count()

    def refuse_if_crowded(self) -> None:
        """Refuse what came last, if all connections together hold too much."""
        if not self._context.held.over or self.parser.ended:
            return
        refused = self.parser.filling
        self.refuse(_CROWDED if refused is None else self.crowded(refused))

    def came_unwanted(self, size_bytes: int) -> None:
        """Bytes came after the last request."""
        self.life.came_unwanted(size_bytes)
