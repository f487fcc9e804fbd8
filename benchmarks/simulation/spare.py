"""Refused requests that could have been served after all: a replay of the final schedule. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.machine import Machine
from benchmarks.simulation.server import Ran


class _Gap:
    """A worker's time without work, and what was gained of the batch before it."""

    __slots__ = ("before_rows", "before_started_s", "begins_s", "ends_s")

    def __init__(self, begins_s: float, ends_s: float, before_rows: int, before_started_s: float) -> None:
        self.begins_s = begins_s
        self.ends_s = ends_s
        self.before_rows = before_rows
        self.before_started_s = before_started_s


class Spare:
    """The idle time of a finished schedule, used up by the refused requests that it could have served.

    A refused request could have been served if, with all that was run left as it was and nobody else delayed,

    - it would have fitted into a batch that began after its arrival and was followed by enough idle time of its worker
      for what the extra rows take, ending by its deadline; or
    - a worker had idle time between its arrival and its deadline for the way there and a batch of its own.

    Requests are asked for in order of arrival, and one that could have been served uses up the idle time (a batch of
    its own may be joined by the next ones). Run times are those of the curve without noise, slowed where the machine
    was. So a policy whose workers had no pause is always right to refuse, even if larger batches would have served
    more.
    """

    def __init__(self, ran: Sequence[Ran], machine: Machine, until_s: float) -> None:
        self._machine = machine
        self._gaps = _gaps(ran, machine, until_s)
        self._ends_s = [gap.ends_s for gap in self._gaps]
        self._longest_s = max([gap.ends_s - gap.begins_s for gap in self._gaps], default=0.0)

    def could_serve(self, request: Request, deadline_s: float) -> bool:
        """Whether this request could have been served, beside those that were asked for before."""
        place = bisect_left(self._ends_s, request.arrived_s)
        while place < len(self._gaps) and self._ends_s[place] < deadline_s + self._longest_s:
            gap = self._gaps[place]
            if gap.begins_s < deadline_s and (
                self._joins(gap, request, deadline_s) or self._alone(gap, request, deadline_s)
            ):
                return True
            place += 1
        return False

    def _joins(self, gap: _Gap, request: Request, deadline_s: float) -> bool:
        rows = gap.before_rows + request.rows
        if request.arrived_s > gap.before_started_s or not gap.before_rows or rows > self._machine.max_rows:
            return False
        extra_s = self._run_s(rows, gap.begins_s) - self._run_s(gap.before_rows, gap.begins_s)
        end_s = gap.begins_s + extra_s
        if end_s > min(gap.ends_s, deadline_s):
            return False
        gap.begins_s, gap.before_rows = end_s, rows
        return True

    def _alone(self, gap: _Gap, request: Request, deadline_s: float) -> bool:
        start_s = max(gap.begins_s, request.arrived_s + self._machine.transit_s)
        end_s = start_s + self._run_s(request.rows, start_s)
        if end_s > min(gap.ends_s, deadline_s):
            return False
        gap.begins_s, gap.before_rows, gap.before_started_s = end_s, request.rows, start_s
        return True

    def _run_s(self, rows: int, at_s: float) -> float:
        return self._machine.curve.run_s(rows) * self._machine.noise.slowed(at_s)


def _gaps(ran: Sequence[Ran], machine: Machine, until_s: float) -> list[_Gap]:
    """The pauses of all workers that are long enough for one row more, in order of their ends."""
    shortest_s = machine.curve.row_s
    last: list[Ran | None] = [None] * machine.workers
    gaps: list[_Gap] = []
    for batch in sorted(ran, key=lambda each: each.started_s):
        _pause(gaps, last[batch.worker], batch.started_s, shortest_s)
        last[batch.worker] = batch
    for before in last:
        _pause(gaps, before, until_s, shortest_s)
    return sorted(gaps, key=lambda gap: gap.ends_s)


def _pause(gaps: list[_Gap], before: Ran | None, ends_s: float, shortest_s: float) -> None:
    begins_s = before.ended_s if before else 0.0
    if ends_s - begins_s >= shortest_s:
        gaps.append(_Gap(begins_s, ends_s, before.rows if before else 0, before.started_s if before else 0.0))
