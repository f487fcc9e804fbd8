"""Requests that would be late as things stand, and are kept a moment in case things change. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import msgspec

from sluice.batching.batch_builder import places_of
from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Job

STAY_S = 0.004
"""How long a request may be on standby: a refusal that comes this much later still counts as immediate."""

PART_OF_BATCH = 0.5
"""The requests on standby have at most this share of a full batch's rows."""

RUNS_LEFT = 2.0
"""A request stays only if it has time for this many full runs: the one that it waits for, and its own."""


class Waiting(msgspec.Struct, frozen=True):
    """A request on standby, until then."""

    job: Job
    curve: LatencyCurve
    until_s: float


class Standby:
    """The last few requests for which there was no time, for at most `STAY_S`.

    A refusal cannot be taken back, and whether more requests are coming is unknown: at the end of a burst the last
    batch would run half empty, moments after others were refused. So the newest of the refused are kept: each gives way
    to the next, or leaves when its stay is over. The last to come is let in first, since it has the most time left
    (adaptive LIFO: B. Maurer, "Fail at Scale", ACM Queue 13, 2015).
    """

    until_s: float
    """When the first of them has to leave, or before: it may have left already."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self.rows = 0
        self.until_s = math.inf

    def add(self, job: Job, curve: LatencyCurve, now_s: float) -> None:
        """One more. Others may have to leave for it: see `turned_away`."""
        job.enqueued_s = now_s
        until_s = min(now_s + STAY_S, job.due_s - RUNS_LEFT * curve.row_s * curve.full_rows)
        self._waiting.append(Waiting(job, curve, until_s))
        self.until_s = min(self.until_s, until_s)
        self.rows += job.places

    def last(self) -> Waiting | None:
        """The last to come whose client has not gone."""
        while self._waiting:
            if not self._waiting[-1].job.future.done():
                return self._waiting[-1]
            self.remove_last()
        return None

    def remove_last(self) -> None:
        """The last has been let in, or its client has gone."""
        self.rows -= self._waiting.pop().job.places

    def turned_away(self, now_s: float) -> list[Job]:
        """Those that are to be refused now."""
        away: list[Job] = []
        if self.until_s <= now_s:
            away += [each.job for each in self._waiting if each.until_s <= now_s]
            self._waiting = deque([each for each in self._waiting if each.until_s > now_s])
            self.until_s = min([each.until_s for each in self._waiting], default=math.inf)
            self.rows -= places_of(away)
        while self._waiting and self.rows > PART_OF_BATCH * self._waiting[-1].curve.full_rows:
            away.append(self._waiting.popleft().job)
            self.rows -= away[-1].places
        return away

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()
        self.rows, self.until_s = 0, math.inf

    def __iter__(self) -> Iterator[Job]:
        """All of them, the first to come first."""
        return iter([each.job for each in self._waiting])
