"""Which request is sent when, over which connection: the part of a load generator that needs no socket and no clock."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol

from sluice.loadgen.arrivals import Times
from sluice.loadgen.ledger import LOST, TIMED_OUT, UNSENT, Ledger

SPACING_S = 0.0005
"""The timer goes off no more often than that: at high rates several requests are sent each time."""

SPARE = 32
"""Connections that have ended are opened again once fewer than these are free. A server that closes what is idle would
otherwise cost the generator time, for connections that nobody needs."""


class PacedConnection(Protocol):
    """A connection that carries one request at a time. But for `open`, the attributes are the pacing's to set.

    The times are those of the request that it carries, or carried last. `open` says whether it can carry another.
    """

    intended_s: float
    sent_s: float
    waited: bool
    busy: bool
    open: bool

    def send(self) -> None:
        """Send the request."""
        ...

    def abandon(self) -> None:
        """End the connection: its answer is not wanted any more."""
        ...


class Pacing(Protocol):
    """What a connection reports: its answer has come, or it has ended."""

    def answered(self, line: PacedConnection, status: int, now_s: float) -> None:
        """The answer has come whole."""
        ...

    def lost(self, line: PacedConnection, now_s: float) -> None:
        """The connection has ended, with or without a request on it."""
        ...


class OpenLoop:
    """Sends each request when it is due, whatever became of those before it.

    A request that is due while no connection is free is sent as soon as one is, in order, and its latency counts from
    when it was due: what a stalled server does to callers who do not wait for each other is not left out of the
    figures ("coordinated omission", G. Tene, How NOT to Measure Latency, 2013). Of the free connections the one that
    was used last goes first, so that few are used where few are needed. `timeout_s` after it was due a request is
    given up, whether it was sent or not.

    `set_timer` takes the time at which `pump` is to be called next, or `math.inf` for not at all. `reopen` is told to
    open a connection that has ended; then `opened` is to be called. `sweep` is to be called from time to time. `on_end`
    is called when every request has ended.
    """

    def __init__(
        self,
        due_s: Times,
        lines: Sequence[PacedConnection],
        ledger: Ledger,
        *,
        timeout_s: float,
        set_timer: Callable[[float], None],
        reopen: Callable[[PacedConnection], None],
        on_end: Callable[[], None],
    ) -> None:
        self.reopened = 0
        self._due_s: list[float] = due_s.tolist()
        self._next = 0
        self._lines = lines
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._set_timer = set_timer
        self._reopen = reopen
        self._on_end = on_end
        self._free = [line for line in lines if line.open]
        self._closed = [line for line in lines if not line.open]
        self._reopening = 0
        self._busy = 0
        self._starved = False

    @property
    def under_way(self) -> int:
        """Requests that were sent, and have not ended."""
        return self._busy

    def waiting(self, now_s: float) -> int:
        """Requests that are due, and have no connection yet."""
        return max(0, bisect_right(self._due_s, now_s) - self._next)

    def pump(self, now_s: float) -> None:
        """Send what is due."""
        due_s, free, starved = self._due_s, self._free, self._starved
        if starved:
            self._give_up(now_s - self._timeout_s, now_s)
        index = first = self._next
        while index < len(due_s) and due_s[index] <= now_s and free:
            line = free.pop()
            line.intended_s = due_s[index]
            line.sent_s = now_s
            line.waited = starved
            line.busy = True
            line.send()
            index += 1
        self._next = index
        self._busy += index - first
        next_s = due_s[index] if index < len(due_s) else math.inf
        self._starved = next_s <= now_s
        self._set_timer(math.inf if self._starved else max(next_s, now_s + SPACING_S))
        if self._closed:
            self._reopen_some()

    def answered(self, line: PacedConnection, status: int, now_s: float) -> None:
        """The answer has come whole, and the connection is free again, if it is open."""
        self._free_of(line, status, now_s)
        if line.open:
            self._free.append(line)
            if self._starved:
                self.pump(now_s)
        self._look_for_the_end()

    def lost(self, line: PacedConnection, now_s: float) -> None:
        """The connection has ended."""
        if line.busy:
            self._free_of(line, LOST, now_s)
        elif line in self._free:
            self._free.remove(line)
        self._closed.append(line)
        self._reopen_some()
        self._look_for_the_end()

    def opened(self, line: PacedConnection, now_s: float) -> None:
        """A connection is there again."""
        self.reopened += 1
        self._reopening -= 1
        self._free.append(line)
        if self._starved:
            self.pump(now_s)

    def sweep(self, now_s: float) -> None:
        """Give up what has taken too long."""
        for line in self._lines:
            if line.busy and line.intended_s + self._timeout_s <= now_s:
                self._free_of(line, TIMED_OUT, now_s)
                line.abandon()
        if self._starved:
            self.pump(now_s)
        self._look_for_the_end()

    def stop(self, now_s: float) -> None:
        """Send nothing more. What is due and was not sent is given up; what is on its way may still be answered."""
        self._give_up(now_s, now_s)
        del self._due_s[self._next :]
        self._starved = False
        self._set_timer(math.inf)
        self._look_for_the_end()

    def _free_of(self, line: PacedConnection, outcome: int, now_s: float) -> None:
        self._ledger.ended(line.intended_s, line.sent_s, now_s, outcome, line.waited)
        line.busy = False
        self._busy -= 1

    def _give_up(self, until_s: float, now_s: float) -> None:
        """Those that were due until then, and still have no connection."""
        while self._next < len(self._due_s) and self._due_s[self._next] <= until_s:
            self._ledger.ended(self._due_s[self._next], now_s, now_s, UNSENT, True)
            self._next += 1

    def _reopen_some(self) -> None:
        while self._closed and len(self._free) + self._reopening < SPARE:
            self._reopening += 1
            self._reopen(self._closed.pop())

    def _look_for_the_end(self) -> None:
        if not self._busy and self._next == len(self._due_s):
            self._on_end()
