"""A connection without socket, event loop and clock: what a client says goes in, and what it would hear comes out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.connections.limits import ConnectionLimits
from sluice.gateway.http import wire
from sluice.gateway.http.actions import PageHead
from sluice.gateway.http.answer_writer import BARE_500
from sluice.gateway.http.connection import HttpConnection
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.server_context import HttpServerContext
from sluice.gateway.messages import Header, HttpResponse
from tests.gateway.http.planes import PuppetPlane

KEEP_ALIVE_S = 5.0
READ_BYTES = 64 * 1024


@dataclass
class BareStream:
    """Keeps what is written, for the client to read."""

    written: bytearray = field(default_factory=bytearray)
    closing: bool = False
    aborted: bool = False
    eof: bool = False

    def write(self, data: bytes, /) -> None:
        assert not self.closing
        assert not self.eof
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


@dataclass
class BareFlow:
    read_paused: bool = False
    write_paused: bool = False

    def pause_reading(self) -> None:
        self.read_paused = True

    def resume_reading(self) -> None:
        self.read_paused = False


@dataclass
class BareBacklog:
    """The test says how much the client leaves untaken."""

    bytes: int = 0
    hidden: bool = False

    def waiting_bytes(self) -> int:
        return self.bytes

    def waits_beneath(self) -> bool:
        return self.hidden and self.bytes > 0

    def unsent_bytes(self) -> int:
        return self.bytes


@dataclass
class BareServerHeaders:
    default_headers: list[Header] = field(default_factory=lambda: [(b"date", b"today"), (b"server", b"test")])


class BareSide:
    """The server's side of one connection: implements `actions.ConnectionHost`, and is an endpoint for a client.

    What is begun is answered by `run`, never from within a call of the connection. `now_s` is the test's own clock.
    """

    def __init__(self, plane: PuppetPlane | None = None, limits: ConnectionLimits | None = None) -> None:
        self.plane = plane or PuppetPlane()
        self.now_s = 1000.0
        self.draining = draining = asyncio.Event()
        self.stream, self.flow, self.backlog = BareStream(), BareFlow(), BareBacklog()
        bounds = limits or ConnectionLimits()
        self.held = HeldBytes(bounds.max_buffered_bytes)
        context = HttpServerContext(self.plane, bounds, draining.is_set, self.held)
        self.connection = HttpConnection(
            context, self, self.stream, self.flow, self.backlog, BareServerHeaders(), KEEP_ALIVE_S, self.now_s
        )
        self.begun: list[Prediction] = []
        self.pages: list[BarePage] = []
        self.due: deque[Callable[[], None]] = deque()
        self._coming: deque[bytes] = deque()
        self._gone = False

    # What the connection has done.

    def begin(self, prediction: Prediction) -> None:
        self.begun.append(prediction)
        self.due.append(lambda: self._answer(prediction))

    def open_page(self, head: PageHead) -> BarePage:
        self.pages.append(BarePage(self, head))
        return self.pages[-1]

    def speaks(self, headers: Sequence[Header]) -> bool:
        return False

    def upgrade(self, head: PageHead) -> None:
        raise AssertionError(head)

    # What the client does.

    def sendall(self, data: bytes, /) -> None:
        if self.stream.closing:
            raise BrokenPipeError
        self._coming.extend(data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES))
        self.run()

    def recv(self, size_bytes: int, /) -> bytes:
        """Never waits: where nothing is to be read and nothing more will be, the test fails."""
        self.run()
        part = bytes(self.stream.written[:size_bytes])
        del self.stream.written[:size_bytes]
        assert part or self.stream.closing or self.stream.eof, "the client would wait for ever"
        return part

    def settimeout(self, timeout_s: float, /) -> None:
        pass

    def close(self) -> None:
        """Go, and look whether anything of this connection is left."""
        if not self._gone:
            self._gone = True
            self.stream.closing = True
            self.connection.lost()
            assert self.held.now_bytes == 0

    # What time does.

    def run(self) -> None:
        """Read what may be read, and answer what may be answered, until there is nothing more to do."""
        while not self.stream.closing:
            if self.due:
                self.due.popleft()()
            elif self._coming and not self.flow.read_paused:
                self.connection.receive(self._coming.popleft(), self.now_s)
            else:
                return

    def wait(self, seconds: float) -> None:
        """Let time pass; a deadline that passes is noticed at the end of it."""
        self.now_s += seconds
        if self.now_s >= self.connection.life.deadline:
            self.connection.life.overdue(self.now_s)

    def _answer(self, prediction: Prediction) -> None:
        body = self.connection.hand_over(prediction)
        response = outcome(self.plane.answer(prediction.route, prediction.method, prediction.headers, body))
        self.connection.answered(prediction, response, self.now_s)


class BarePage:
    """A page that does what its path says. Implements `actions.Page`. At `/app/early` it does not wait for its body."""

    def __init__(self, side: BareSide, head: PageHead) -> None:
        self._side = side
        self.target, self.headers = head.target.decode("latin-1"), head.headers
        self.method = head.parser.get_method().decode("ascii")
        self.keep_alive = head.parser.should_keep_alive() and head.parser.get_http_version() != "1.0"
        self.answer_begun = self.answered = self.disconnected = False
        self._started = self._complete = False
        self._body = bytearray()

    @property
    def body_bytes(self) -> int:
        return len(self._body)

    def start(self) -> None:
        self._started = True
        self._answer_if_due()

    def receive(self, body: bytes) -> None:
        if not self.answered:
            self._body += body

    def body_complete(self) -> None:
        self._complete = True
        self._answer_if_due()

    def forget_body(self) -> None:
        self._body = bytearray()

    def disconnect(self) -> None:
        self.disconnected = True

    def _answer_if_due(self) -> None:
        early = self.target == "/app/early"
        if self._started and (self._complete != early):
            self._side.due.append(self._answer)

    def _answer(self) -> None:
        if self.disconnected or self._side.stream.closing:
            return
        side = self._side
        response = outcome(side.plane.answer(self.target, self.method, self.headers, bytes(self._body)))
        self.answer_begun = True
        start = wire.Heads().start(response.status, [])
        side.stream.write(wire.head(start, response, b"" if self.keep_alive else wire.CLOSE))
        if len(response.body) > wire.JOINED_BYTES:
            side.connection.page_writes(len(response.body))
        side.stream.write(response.body)
        self.answered = True
        if not self.keep_alive:
            side.connection.page_closes(side.now_s)
        side.connection.page_answered(side.now_s)


def outcome(answering: Coroutine[Any, Any, HttpResponse]) -> HttpResponse:
    """The answer of a coroutine that never waits; a 500 for one that raises, as the lane has it."""
    try:
        answering.send(None)
    except StopIteration as ended:
        response: HttpResponse = ended.value
        return response
    except RuntimeError:
        return BARE_500
    raise AssertionError("it waits")
