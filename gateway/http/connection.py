"""One connection: its state, what is written to it, how long each thing may take, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sluice.gateway.connections.deadlines import Timed
from sluice.gateway.connections.limits import surplus_connections
from sluice.gateway.connections.long_body import LongBody
from sluice.gateway.http import wire
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.http.unsent import unsent_bytes
from sluice.gateway.messages import HttpResponse

_logger = logging.getLogger("sluice.http")

NOTHING, HEAD, BODY, UPGRADE = range(4)
"""What is coming in. `UPGRADE`: a complete head that asks for another protocol."""

BARE_500 = wire.plain(500, "Internal Server Error")
_WAITING_BYTES, _WAITING_PAGE_BYTES = 512, 4096
"""What a prediction that waits behind another request takes beside its body, and a page with all that FastAPI needs."""

_FULL = wire.plain(503, "Too many connections.")
_CROWDED = wire.plain(503, "Too much is being read at once.", (b"retry-after", b"1"))
_SLOW = wire.plain(408, "The request was not complete in time.")


class Connection(HttpToolsProtocol, Timed):
    """What holds for every request on a connection, prediction or not; `Answers` and `LaneProtocol` build on it.

    It always has the deadline that its state asks for, and none while an answer is being worked out. It ends without
    a reset wherever the client may still be sending, so that the last answer is not lost on the way.
    """

    __slots__ = (
        "_beneath",
        "_counted_bytes",
        "_current",
        "_discarded_bytes",
        "_ended",
        "_filling",
        "_head_bytes",
        "_held",
        "_keep_alive_s",
        "_leaving",
        "_lingering",
        "_long_body",
        "_page_bytes",
        "_page_timed_bytes",
        "_spare_bytes",
        "_spare_until",
        "_stage",
        "_unread",
        "_unsent_whole_bytes",
        "_waiting_pages",
        "deadline",
        "unsent_bytes",
    )

    door: ClassVar[HttpServerContext]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._keep_alive_s = float(config.timeout_keep_alive)
        self._current: Prediction | RequestResponseCycle | None = None
        # The prediction whose body is coming in, and where the rest of it goes if it is long.
        self._filling: Prediction | None = None
        self._long_body: LongBody | None = None
        # How much of the body of the page that is coming in has come, and for how much of that time was allowed.
        self._page_bytes = self._page_timed_bytes = 0
        # How many of the requests that wait behind others are for pages.
        self._waiting_pages = 0
        self._stage = NOTHING
        # Nothing may be parsed for now: `_unread` waits.
        self._held = False
        self._unread = memoryview(b"")
        # What TLS writes to; the transport itself where there is no TLS.
        self._beneath: asyncio.Transport = self.transport
        # What has come of a head that is too long for one slice, until its request is answered.
        self._head_bytes = 0
        # How much of `door.held` is held here.
        self._counted_bytes = 0
        # Nothing will be parsed any more.
        self._ended = False
        # The server stops: the next answer is the last.
        self._leaving = False
        # The last answer is written, and the client may take a moment to read it.
        self._lingering = False
        self._discarded_bytes = 0
        # How much of the answers was unsent when the deadline was set; 0 where it was not about sending.
        self.unsent_bytes = 0
        # The last long answer, of which anything may be unsent.
        self._unsent_whole_bytes = 0
        # While too much is held: what may be unsent by when, or the connection makes room.
        self._spare_bytes, self._spare_until = 0, math.inf
        self.deadline = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or turn the client away."""
        super().connection_made(transport)
        limits = self.door.limits
        self.deadline = self.loop.time() + limits.request_read_timeout_s
        self.door.watch(self.loop, self.connections, self._keep_alive_s)
        if (surplus := self.door.surplus(len(self.connections))) > 0:
            self._turn_away(surplus)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        super().connection_lost(exc)
        self.door.left()

    def shutdown(self) -> None:
        """Answer what is there and what is on its way, and take nothing more.

        A request may have been sent when the connection looks idle from here, so that it is not closed at once.
        """
        self._leaving = True
        if self._current is not None:
            super().shutdown()
            if self._stage != BODY:
                self._end()
        elif self._stage == NOTHING and not self._lingering:
            self.deadline = self.loop.time() + self.door.limits.farewell_s

    def pause_writing(self) -> None:
        """The client reads too slowly: from now on it has to make progress."""
        super().pause_writing()
        self._count()
        self._settle()

    def note_long(self, size_bytes: int) -> None:
        """A page writes so much in one piece."""
        self._unsent_whole_bytes = size_bytes

    def _write(self, method: str, response: HttpResponse, connection: bytes) -> None:
        start = self.door.heads.start(response.status, self.server_state.default_headers)
        try:
            head = wire.head(start, response, connection)
        except ValueError:
            _logger.exception("an answer could not be written")
            self._write(method, BARE_500, connection)
            return
        body = response.body if wire.has_body(method, response.status) else b""
        if len(body) <= wire.JOINED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self._unsent_whole_bytes = len(body)
            self.transport.write(body)

    # How much it holds.

    def _waiting_bytes(self) -> int:
        """What is written and not with the kernel yet."""
        waiting_bytes = self.transport.get_write_buffer_size()
        return (
            waiting_bytes if self._beneath is self.transport else waiting_bytes + self._beneath.get_write_buffer_size()
        )

    def _waits_beneath(self) -> bool:
        """Whether something waits of which TLS says nothing."""
        return self._beneath is not self.transport and self._beneath.get_write_buffer_size() > 0

    def _count(self) -> None:
        held_bytes = len(self._unread) + self._head_bytes
        if self._long_body is not None:
            held_bytes += self._long_body.received_bytes
        elif isinstance(self._current, Prediction):
            held_bytes += len(self._current.body)
        if isinstance(self.cycle, RequestResponseCycle):
            held_bytes += len(self.cycle.body)
        held_bytes += len(self.pipeline) * _WAITING_BYTES + self._waiting_pages * _WAITING_PAGE_BYTES
        if unsent := self._waiting_bytes():
            # The transport keeps an answer whole until its last byte is gone.
            held_bytes += max(unsent, self._unsent_whole_bytes)
        self._set_counted(held_bytes)

    def _set_counted(self, held_bytes: int) -> None:
        self.door.held.now_bytes += held_bytes - self._counted_bytes
        self._counted_bytes = held_bytes

    def _refuse_if_crowded(self) -> None:
        """Give up what came last, if the connections now hold too much together."""
        held = self.door.held
        if not held.over or self._ended:
            return
        refused = self._filling
        if refused is None:
            self._refuse(_CROWDED)
        else:
            self._refuse(self._crowded(refused))

    def _crowded(self, refused: Prediction) -> HttpResponse:
        return self.door.plane.refuse(refused.route, refused.headers, self.door.held.refusal())

    def recount(self) -> None:
        """Count what is still unsent."""
        self._count()

    def make_room(self, now: float) -> None:
        """Too much is held: cut the connection off if its client takes too little of what is written to it.

        It has `crowded_grace_s` to take what it is to take in that time.
        """
        if not self._waiting_bytes():
            return
        limits = self.door.limits
        if now > self._spare_until + limits.crowded_grace_s or self._spare_until == math.inf:
            self._spare_until = now + limits.crowded_grace_s
            self._spare_bytes = unsent_bytes(self.transport, self._waiting_bytes()) - int(
                limits.min_body_bytes_per_s * limits.crowded_grace_s
            )
        elif now >= self._spare_until:
            self._spare_until = math.inf
            if unsent_bytes(self.transport, self._waiting_bytes()) > self._spare_bytes:
                self.door.log_fault(
                    _logger, logging.WARNING, "a client that left its answer unread made room for others"
                )
                self._set_counted(0)
                self.transport.abort()

    # How it ends.

    def _turn_away(self, surplus: int) -> None:
        if surplus > surplus_connections(self.door.limits.max_connections):
            # So many that even telling them would be a burden.
            self.transport.abort()
        else:
            self._write("GET", _FULL, wire.CLOSE)
            self._linger()

    def _refuse(self, response: HttpResponse) -> None:
        """End the connection with this answer, when its turn has come."""
        raise NotImplementedError

    def _end(self) -> None:
        self._ended = self._held = True
        self._discarded_bytes += len(self._unread)
        self._unread = memoryview(b"")
        self._long_body = None
        if self._counted_bytes:
            self._count()

    def _finish(self) -> None:
        if self.flow.read_paused or self._discarded_bytes or self._stage:
            self._linger()
        else:
            self._end()
            self.transport.close()
            self._settle()

    def _linger(self) -> None:
        """Close, but not with a reset: the kernel sends one for bytes unread, and the client would lose the answer."""
        self._end()
        self._lingering = True
        self._discarded_bytes = 0
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._settle()

    def _discard(self, size_bytes: int) -> None:
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self.door.limits.linger_bytes:
            if self._lingering:
                self.transport.close()
            else:
                self.flow.pause_reading()

    # How long it may take.

    def _settle(self) -> None:
        """Set the deadline that the state of the connection asks for."""
        limits = self.door.limits
        self.unsent_bytes = 0
        if self._waits_beneath():
            self._count()
        if self.flow.write_paused or self.transport.is_closing() or self._waits_beneath():
            self.unsent_bytes = self._waiting_bytes()
            allowed_s = limits.write_timeout_s
        elif self._lingering:
            allowed_s = limits.linger_s
        elif self._current is None:
            allowed_s = limits.request_read_timeout_s if self._stage else self._keep_alive_s
        elif self._stage == BODY and self._current is self.cycle:
            allowed_s = limits.request_read_timeout_s
        else:
            self.deadline = math.inf
            return
        self.deadline = self.loop.time() + allowed_s

    def overdue(self, now: float) -> None:
        """Close, cut off or refuse, whichever the state asks for."""
        unsent = self._waiting_bytes()
        if unsent:
            if self.unsent_bytes and unsent >= self.unsent_bytes:
                self.transport.abort()
            self.unsent_bytes = unsent
            self.deadline = now + self.door.limits.write_timeout_s
        elif self._lingering or self.transport.is_closing():
            self.transport.abort()
        elif self.unsent_bytes:
            # All is taken, of which TLS has told nobody.
            self._settle()
        elif self._stage == NOTHING:
            self.transport.close()
        elif self._stage == BODY and self._filling is None and self.flow.read_paused:
            # It is FastAPI that does not read on, not the client that does not send.
            self._settle()
        elif not self._is_worth_more_time(now):
            self._refuse(_SLOW)

    def _is_worth_more_time(self, now: float) -> bool:
        """Put the deadline off for what has come of a body since it was last put off; whether that was enough."""
        filling = self._filling
        if filling is None:
            if self._stage == BODY:
                self.deadline += (self._page_bytes - self._page_timed_bytes) / self.door.limits.min_body_bytes_per_s
                self._page_timed_bytes = self._page_bytes
            return now < self.deadline
        received_bytes = len(filling.body) if self._long_body is None else self._long_body.received_bytes
        self.deadline += (received_bytes - filling.timed_bytes) / self.door.limits.min_body_bytes_per_s
        filling.timed_bytes = received_bytes
        return now < self.deadline
