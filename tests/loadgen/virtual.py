"""A load generator without sockets, in time that only moves when nothing is left to do."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import numpy as np

from benchmarks.arrivals import Times
from benchmarks.ledger import Ledger, Offered, Seen, Window
from benchmarks.pacing import ClosedLoop, OpenLoop, Pacing

OBJECTIVE_S = 0.05

Answers = Callable[[float], tuple[float, int] | None]
"""For a request sent at a time: when its answer comes and with which status; `None` if the connection is lost."""


class VirtualLine:
    """A connection to a server that answers as it is told to."""

    pacing: Pacing

    def __init__(self, world: World) -> None:
        self.intended_s = self.sent_s = 0.0
        self._world = world

    def send(self) -> None:
        end = self._world.answers(self.sent_s)
        if end is None:
            self._world.at(self.sent_s, lambda: self.pacing.lost(self, busy=True))
        elif end[0] < math.inf:
            self._world.at(end[0], lambda: self.pacing.answered(self, end[1], self._world.now_s))


class World:
    """The clock, the timer and the server."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.now_s = 0.0
        self.ended = False
        self._timer_s = math.inf
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), event))

    def open_loop(self, due_s: Times, connections: int) -> Seen:
        """What an open-loop run sees of the server, over all of its time."""
        ledger, lines = Ledger(), [VirtualLine(self) for _ in range(connections)]
        pacing = OpenLoop(due_s, lines, ledger, set_timer=self._set_timer, on_end=self._end)
        for line in lines:
            line.pacing = pacing
        pacing.pump(self.now_s)
        while self._events or self._timer_s < math.inf:
            if self._events and self._events[0][0] <= self._timer_s:
                self.now_s, _, event = heapq.heappop(self._events)
                event()
            else:
                self.now_s, self._timer_s = self._timer_s, math.inf
                pacing.pump(self.now_s)
        return ledger.closed(Offered(due_s, pacing.sent), 0.0, Window(0, math.ceil(self.now_s)), OBJECTIVE_S, 0.0)

    def closed_loop(self, end_s: float, connections: int) -> Seen:
        """What a closed-loop run sees of the server, over all of its time."""
        ledger, lines = Ledger(), [VirtualLine(self) for _ in range(connections)]
        pacing = ClosedLoop(end_s, lines, ledger, on_end=self._end)
        for line in lines:
            line.pacing = pacing
        pacing.begin(self.now_s)
        while self._events:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        offered = Offered(np.array(pacing.sent_s), len(pacing.sent_s))
        return ledger.closed(offered, 0.0, Window(0, math.ceil(self.now_s)), OBJECTIVE_S, 0.0)

    def _set_timer(self, at_s: float) -> None:
        self._timer_s = at_s

    def _end(self) -> None:
        self.ended = True
