"""Callers who wait: the pacing of a closed loop, which is how capacity is searched for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sluice.loadgen.ledger import LOST, TIMED_OUT, Ledger
from sluice.loadgen.pacing import PacedConnection


class ClosedLoop:
    """Every connection sends its next request as soon as it has its answer, until `end_s`.

    Latency counts from the sending, so it says what waiting callers see, and nothing about load that does not wait.
    `on_end` is called when the last answer has come.
    """

    def __init__(
        self, end_s: float, lines: Iterable[PacedConnection], ledger: Ledger, *, on_end: Callable[[], None]
    ) -> None:
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

    def answered(self, line: PacedConnection, status: int, now_s: float) -> None:
        """The answer has come whole; the next request follows."""
        self._ended(line, status, now_s)
        if line.open and now_s < self._end_s:
            self._busy += 1
            self._send(line, now_s)
        self._look_for_the_end()

    def lost(self, line: PacedConnection, now_s: float) -> None:
        """The connection has ended, and is not replaced."""
        if line.busy:
            self._ended(line, LOST, now_s)
            self._look_for_the_end()

    def give_up(self, now_s: float) -> None:
        """Nobody waits any longer for the answers that are missing."""
        for line in self._lines:
            if line.busy:
                self._ended(line, TIMED_OUT, now_s)

    def _send(self, line: PacedConnection, now_s: float) -> None:
        line.intended_s = line.sent_s = now_s
        line.busy = True
        line.send()

    def _ended(self, line: PacedConnection, outcome: int, now_s: float) -> None:
        self._ledger.ended(line.intended_s, line.sent_s, now_s, outcome, False)
        line.busy = False
        self._busy -= 1

    def _look_for_the_end(self) -> None:
        if not self._busy:
            self._on_end()
