"""Which request is sent when, over which connection: the part of a load generator that needs no socket and no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

from benchmarks.arrivals import Times
from benchmarks.ledger import Ledger

SPACING_S = 0.0005
"""The timer goes off no more often than that: at high rates several requests are sent each time."""


class Line(Protocol):
    """A connection that carries one request at a time. The times are those of the request that it carries."""

    intended_s: float
    sent_s: float

    def send(self) -> None:
        """Send the request."""
        ...


class Pacing(Protocol):
    """What a connection tells: its answer has come, or it is lost, `busy` with a request or not."""

    def answered(self, line: Line, status: int, now_s: float) -> None: ...

    def lost(self, line: Line, *, busy: bool) -> None: ...


class OpenLoop:
    """Sends each request when it is due, whatever became of those before it.

    A request that is due while no connection is free is sent as soon as one is, in order, and its latency counts from
    when it was due: what a stalled server does to callers who do not wait for each other is not left out of the
    figures ("coordinated omission", G. Tene, How NOT to Measure Latency, 2013). Of the free connections the one that
    was used last goes first, so that few are used where few are needed.

    `set_timer` takes the time at which `pump` is to be called next, or `math.inf` for not at all. `on_end` is called
    when every request was sent and has ended.
    """

    def __init__(
        self,
        due_s: Times,
        lines: Iterable[Line],
        ledger: Ledger,
        *,
        set_timer: Callable[[float], None],
        on_end: Callable[[], None],
    ) -> None:
        self.sent = 0
        self._due_s = due_s.tolist()
        self._ledger = ledger
        self._set_timer = set_timer
        self._on_end = on_end
        self._free = list(lines)
        self._busy = 0
        self._starved = False

    def pump(self, now_s: float) -> None:
        """Send what is due."""
        due_s, free = self._due_s, self._free
        index = first = self.sent
        while index < len(due_s) and due_s[index] <= now_s and free:
            line = free.pop()
            line.intended_s = due_s[index]
            line.sent_s = now_s
            line.send()
            index += 1
        self.sent = index
        self._busy += index - first
        if self._starved:
            self._ledger.waited += index - first
        next_s = due_s[index] if index < len(due_s) else math.inf
        self._starved = next_s <= now_s
        self._set_timer(math.inf if self._starved else max(next_s, now_s + SPACING_S))

    def answered(self, line: Line, status: int, now_s: float) -> None:
        """The answer has come whole, and the connection is free again."""
        self._ledger.answered(line.intended_s, line.sent_s, now_s, status)
        self._free.append(line)
        self._busy -= 1
        if self._starved:
            self.pump(now_s)
        self._look_for_the_end()

    def lost(self, line: Line, *, busy: bool) -> None:
        """The connection has ended. None is opened in its place: the run is not going to be believed anyway."""
        if busy:
            self._ledger.lost += 1
            self._busy -= 1
        else:
            self._free.remove(line)
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if not self._busy and self.sent == len(self._due_s):
            self._on_end()


class ClosedLoop:
    """Every connection sends its next request as soon as it has its answer, until `end_s`.

    Latency counts from the sending, so it says what waiting callers see, and nothing about load that does not wait.
    `on_end` is called when the last answer has come.
    """

    def __init__(self, end_s: float, lines: Iterable[Line], ledger: Ledger, *, on_end: Callable[[], None]) -> None:
        self.sent_s: list[float] = []
        self._end_s = end_s
        self._ledger = ledger
        self._on_end = on_end
        self._lines = list(lines)
        self._busy = 0

    def begin(self, now_s: float) -> None:
        """Send the first request of every connection."""
        self._busy = len(self._lines)
        for line in self._lines:
            self._send(line, now_s)

    def answered(self, line: Line, status: int, now_s: float) -> None:
        """The answer has come whole; the next request follows."""
        self._ledger.answered(line.intended_s, line.sent_s, now_s, status)
        if now_s < self._end_s:
            self._send(line, now_s)
        else:
            self._ended()

    def lost(self, line: Line, *, busy: bool) -> None:
        """The connection has ended, and is not replaced."""
        if busy:
            self._ledger.lost += 1
            self._ended()
        else:
            self._lines.remove(line)

    def _send(self, line: Line, now_s: float) -> None:
        self.sent_s.append(now_s)
        line.intended_s = line.sent_s = now_s
        line.send()

    def _ended(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._on_end()
