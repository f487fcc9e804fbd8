"""A load generator without sockets, in time that only moves when nothing is left to do."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

from benchmarks.closed_loop import ClosedLoop
from sluice.loadgen.arrivals import Times
from sluice.loadgen.figures import CountedWindow, Figures, figures
from sluice.loadgen.generator import SWEEP_S
from sluice.loadgen.ledger import EndedRequests, Ledger
from sluice.loadgen.pacing import OpenLoop, PacedConnection, Pacing

OBJECTIVE_S = 0.05
TIMEOUT_S = 20.0

STALL_S, PERIOD_S = 0.4, 1.5

Answers = Callable[[float], tuple[float, int] | None]
"""For a request sent at a time: when its answer comes and with which status; `None` if the connection is lost."""


def stalling(sent_s: float) -> tuple[float, int]:
    """Answers at once, but in the first 0.4 s of every 1.5 s: then when those are over."""
    within_s = sent_s % PERIOD_S
    return (sent_s - within_s + STALL_S if within_s < STALL_S else sent_s), 200


class VirtualLine:
    """A connection to a server that answers as it is told to."""

    pacing: Pacing

    def __init__(self, world: World) -> None:
        self.intended_s = self.sent_s = 0.0
        self.waited = self.busy = False
        self.open = True
        self.abandoned = 0
        self._world = world
        self._end: tuple[float, int] | None = None

    def send(self) -> None:
        self._end = end = self._world.answers(self.sent_s)
        if end is None:
            self._world.at(self.sent_s, self._lose)
        elif end[0] < math.inf:
            self._world.at(end[0], lambda: self._answer(end))

    def abandon(self) -> None:
        self.abandoned += 1
        self._end = None
        self._world.at(self._world.now_s, self._lose)

    def _answer(self, end: tuple[float, int]) -> None:
        if self._end is end:
            self.pacing.answered(self, end[1], self._world.now_s)

    def _lose(self) -> None:
        self.open = False
        self.pacing.lost(self, self._world.now_s)


class World:
    """The clock, the timer and the server. Connections that end open again after `reopen_s`, or never."""

    def __init__(self, answers: Answers, reopen_s: float = math.inf, *, open_at_first: bool = True) -> None:
        self.answers = answers
        self.now_s = 0.0
        self.ended = False
        self.lines: list[VirtualLine] = []
        self.pacing: OpenLoop | None = None
        self._reopen_s = reopen_s
        self._open_at_first = open_at_first
        self._timer_s = math.inf
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), event))

    def open_loop(self, due_s: Times, connections: int, timeout_s: float = TIMEOUT_S) -> Figures:
        """What an open-loop run sees of the server, over all of its time."""
        return figures(self.requests(due_s, connections, timeout_s), self._whole(), OBJECTIVE_S)

    def requests(self, due_s: Times, connections: int, timeout_s: float = TIMEOUT_S) -> EndedRequests:
        """Every request of an open-loop run."""
        ledger = Ledger()
        self.lines = [VirtualLine(self) for _ in range(connections)]
        for line in self.lines:
            line.open = self._open_at_first
        self.pacing = pacing = OpenLoop(
            due_s,
            self.lines,
            ledger,
            timeout_s=timeout_s,
            set_timer=self._set_timer,
            reopen=self._reopen,
            on_end=self._end,
        )
        for line in self.lines:
            line.pacing = pacing
        self.at(SWEEP_S, self._sweep)
        pacing.pump(self.now_s)
        while not self.ended:
            if self._events[0][0] <= self._timer_s:
                self._next_event()
            else:
                self.now_s, self._timer_s = max(self.now_s, self._timer_s), math.inf
                pacing.pump(self.now_s)
        return ledger.requests(0.0)

    def closed_loop(self, end_s: float, connections: int) -> Figures:
        """What a closed-loop run sees of the server, over all of its time."""
        ledger = Ledger()
        self.lines = [VirtualLine(self) for _ in range(connections)]
        pacing = ClosedLoop(end_s, self.lines, ledger, on_end=self._end)
        for line in self.lines:
            line.pacing = pacing
        pacing.begin(self.now_s)
        while self._events:
            self._next_event()
        return figures(ledger.requests(0.0), self._whole(), OBJECTIVE_S)

    def _next_event(self) -> None:
        when_s, _, event = heapq.heappop(self._events)
        self.now_s = max(self.now_s, when_s)  # an event may have held all that follow up
        event()

    def _whole(self) -> CountedWindow:
        return CountedWindow(0, math.ceil(self.now_s))

    def _sweep(self) -> None:
        assert self.pacing is not None
        self.pacing.sweep(self.now_s)
        self.at(self.now_s + SWEEP_S, self._sweep)

    def _reopen(self, line: PacedConnection) -> None:
        if self._reopen_s < math.inf:
            self.at(self.now_s + self._reopen_s, lambda: self._opened(line))

    def _opened(self, line: PacedConnection) -> None:
        assert self.pacing is not None
        line.open = True
        self.pacing.opened(line, self.now_s)

    def _set_timer(self, at_s: float) -> None:
        self._timer_s = at_s

    def _end(self) -> None:
        self.ended = True
