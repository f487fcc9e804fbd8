"""How long each thing on a connection may take, how much memory it may hold, and how the connection ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from sluice.gateway.connections.held_bytes import HeldShare
from sluice.gateway.http import wire
from sluice.gateway.http.actions import Backlog, ClientStream, Flow
from sluice.gateway.http.answer_writer import AnswerWriter
from sluice.gateway.http.request_feed import RequestFeed
from sluice.gateway.http.request_order import RequestOrder
from sluice.gateway.http.request_parser import BODY, NOTHING, RequestParser
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import HttpResponse

_logger = logging.getLogger("sluice.http")

_SLOW = wire.plain(408, "The request was not complete in time.")


class HttpLifetime:
    """Sets the deadline that the state of a connection asks for, counts what it holds, and ends it.

    There is always a deadline but while an answer is being worked out. The end is no reset wherever the client may
    still be sending, so that the last answer is not lost: what it sends is thrown away for a while.

    `now` is the time of what happens at the moment; whoever tells of it sets it first. A client whose request takes
    too long is refused with `on_slow`.
    """

    __slots__ = (
        "_backlog",
        "_context",
        "_discarded_bytes",
        "_feed",
        "_flow",
        "_keep_alive_s",
        "_on_slow",
        "_order",
        "_parser",
        "_reading_timed",
        "_stream",
        "_timed_bytes",
        "_writer",
        "deadline",
        "lingering",
        "now",
        "share",
        "unsent_bytes",
    )

    def __init__(
        self,
        context: HttpServerContext,
        stream: ClientStream,
        flow: Flow,
        backlog: Backlog,
        feed: RequestFeed,
        order: RequestOrder,
        writer: AnswerWriter,
        on_slow: Callable[[HttpResponse], None],
        keep_alive_s: float,
        now: float,
    ) -> None:
        self._context = context
        self._stream = stream
        self._flow = flow
        self._backlog = backlog
        self._feed = feed
        self._parser: RequestParser = feed.parser
        self._order = order
        self._writer = writer
        self._on_slow = on_slow
        self._keep_alive_s = keep_alive_s
        # What is counted of this connection in `context.held`.
        self.share = HeldShare(context.held)
        # The last answer is written, and the client may take a moment to read it.
        self.lingering = False
        # How much came after the last request.
        self._discarded_bytes = 0
        # A request is incomplete, and its deadline runs. For how much of its body time was allowed.
        self._reading_timed = False
        self._timed_bytes = 0
        # How much of the answers was unsent when the deadline was set; 0 where it was not about sending.
        self.unsent_bytes = 0
        self.now = now
        self.deadline = now + context.limits.request_read_timeout_s

    # How much it holds.

    def count(self) -> None:
        """Count what is held here of requests and answers."""
        self.share.become(self._feed.kept_bytes() + self._order.held_bytes() + self._writer.held_bytes())

    def count_again(self) -> None:
        """Count anew where anything is counted. What is small, whole and alone never is."""
        if self.share.size_bytes:
            self.count()

    def recount(self) -> None:
        """Count what is still unsent."""
        self.count()

    def make_room(self, now: float) -> None:
        """Too much is held: cut the connection off if its client takes too little of what is written to it."""
        if self._writer.is_stuck(now, self._context.limits):
            self._context.faults.warn(_logger, "closed an HTTP connection: its client takes its answers too slowly")
            self.share.become(0)
            self._stream.abort()

    # How it ends.

    def end_requests(self) -> None:
        """Take no request any more; the answers to those that are there follow."""
        self._discarded_bytes += self._feed.end()
        self.count_again()

    def finish(self) -> None:
        """Close behind the last answer."""
        if self._flow.read_paused or self._discarded_bytes or self._parser.stage:
            self.linger()
        else:
            self.end_requests()
            self._stream.close()
            self.settle()

    def linger(self) -> None:
        """Close, but not with a reset: the kernel sends one for bytes unread, and the client would lose the answer."""
        self.end_requests()
        self.lingering = True
        self._discarded_bytes = 0
        if self._stream.can_write_eof():
            self._stream.write_eof()
        self._flow.resume_reading()
        self.settle()

    def came_unwanted(self, size_bytes: int) -> None:
        """Bound what comes after the last request."""
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self._context.limits.linger_bytes:
            if self.lingering:
                self._stream.close()
            else:
                self._flow.pause_reading()

    def close(self) -> None:
        """The connection has ended: nothing is held, and nothing is due. The last call."""
        self.deadline = math.inf
        self._feed.close()
        self.share.become(0)
        del self._on_slow

    # How long it may take.

    def request_incomplete(self) -> None:
        """A part of a request has come; its time begins with the first."""
        if not self._reading_timed:
            self._reading_timed = True
            self._timed_bytes = 0
            self.settle()

    def request_complete(self) -> None:
        """The client has sent what it had to send."""
        self._reading_timed = False
        self.deadline = math.inf

    def answer_written(self) -> None:
        """An answer is written, and nothing waits behind it."""
        if self._backlog.hidden and self._backlog.waits_beneath():
            self.settle()
        else:
            self.deadline = self.now + self._keep_alive_s

    def settle(self) -> None:
        """Set the deadline that the state of the connection asks for."""
        self.unsent_bytes = 0
        waits_beneath = self._backlog.waits_beneath()
        if waits_beneath:
            self.count()
        if self._flow.write_paused or self._stream.is_closing() or waits_beneath:
            self.unsent_bytes = self._backlog.waiting_bytes()
            self.deadline = self.now + self._context.limits.write_timeout_s
        else:
            self.deadline = self.now + self._allowed_s()

    def _allowed_s(self) -> float:
        """The time for the client's next step where nothing waits to be sent."""
        limits, parser, current = self._context.limits, self._parser, self._order.current
        if self.lingering:
            return limits.linger_s
        if current is None:
            return limits.request_read_timeout_s if parser.stage else self._keep_alive_s
        if parser.stage == BODY and (current is parser.filling or current is parser.page):
            return limits.request_read_timeout_s
        return math.inf

    def overdue(self, now: float) -> None:
        """Close, cut off or refuse, whichever the state asks for."""
        self.now = now
        unsent_bytes = self._backlog.waiting_bytes()
        if unsent_bytes:
            if self.unsent_bytes and unsent_bytes >= self.unsent_bytes:
                self._stream.abort()
            self.unsent_bytes = unsent_bytes
            self.deadline = now + self._context.limits.write_timeout_s
        elif self.lingering or self._stream.is_closing():
            self._stream.abort()
        elif self.unsent_bytes:
            # All is taken, which TLS does not tell.
            self.settle()
        elif self._parser.stage == NOTHING:
            self._stream.close()
        elif self._parser.page is not None and self._flow.read_paused:
            # It is the page that does not read on, not the client that does not send.
            self.settle()
        elif not self._is_worth_more_time(now):
            self._on_slow(_SLOW)

    def _is_worth_more_time(self, now: float) -> bool:
        """Put the deadline off for what has come of a body since it was last put off; whether that was enough."""
        if self._parser.stage == BODY:
            body_bytes = self._feed.body_bytes()
            self.deadline += (body_bytes - self._timed_bytes) / self._context.limits.min_body_bytes_per_s
            self._timed_bytes = body_bytes
        return now < self.deadline
