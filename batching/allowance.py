"""How many rows may be in hand at once, learned from the time that answers spent outside the engine. Pure."""

from __future__ import annotations

import math

from sluice.batching.window import RecentValues

LEAST_ROWS = 64
"""This many rows are always let in: with none let in, nothing could be learned."""

MOST_ROWS = float(1 << 17)
"""An allowance of this many rows or more limits nothing, and is dropped."""

OWN_PART = 0.1
"""The share of the objective that the gateway may take for itself. The rest is for the wait and for the engine."""

LEAST_SHARE = 0.5
"""Where the engine takes longer than the gateway, rows in hand keep the engine busy, and are not limited."""

SHRINK, GROW = 0.6, 1.25
"""The most by which one round trip changes the allowance."""

ROUND_TRIPS = 5
"""The number of answers whose median counts: one that was slow because the machine was busy changes nothing."""


class Allowance:
    """The rows that may be in hand, between being let in and being answered, so that a gateway keeps an objective.

    An overloaded gateway is late with everything: it reads, decodes and answers in turns, and a turn takes longer the
    more is in hand. The engine's latency curve does not show this. The remedy is to have fewer rows in hand, but enough
    that the gateway never pauses. This concurrency limit follows the time that answers spent outside the wait for the
    engine and its run, as a share of what they may take (TCP Vegas, L. Brakmo et al., SIGCOMM 1994; Netflix's
    concurrency-limits). It moves once for each round trip: an answer counts if its request was let in after the last
    move.

    There is no limit until answers are too slow, and none any more after some dozens of quick round trips. `took_s` is
    the quickest of the latest round trips: a request that would be late even at that speed is late.
    """

    def __init__(self, objective_s: float) -> None:
        self.rows = math.inf
        self.took_s = 0.0
        self._target_s = OWN_PART * objective_s
        self._took_s = RecentValues(ROUND_TRIPS)
        self._own_s = RecentValues(ROUND_TRIPS)
        self.moved_s = -math.inf
        self._most_rows = 0

    def full(self, rows: int) -> bool:
        """Whether nothing more is to be let in, with so many rows in hand."""
        if rows > self._most_rows:
            self._most_rows = rows
        return rows >= self.rows

    def answered(self, began_s: float, took_s: float, own_s: float, now_s: float) -> None:
        """A request that was let in at `began_s` was answered, after `took_s`. Of these, `own_s` are the gateway's."""
        if began_s < self.moved_s:
            return
        self._took_s.add(took_s)
        self._own_s.add(own_s)
        self.took_s, own_s = self._took_s.percentile(0.0), max(self._own_s.percentile(0.5), 1e-9)
        self.moved_s = now_s
        most_rows, self._most_rows = float(self._most_rows), 0
        if own_s > self._target_s and own_s > LEAST_SHARE * took_s:
            self.rows = max(LEAST_ROWS, min(self.rows, most_rows) * max(SHRINK, self._target_s / own_s))
        elif self.rows < math.inf:
            self.rows *= min(GROW, max(1.0, self._target_s / own_s))
            if self.rows > MOST_ROWS:
                self.rows = math.inf
