"""Fills one batch: which jobs go into it, which are too late for any, and when it is closed. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.batching.job import Job
from sluice.batching.waiting_lines import QUANTUM_ROWS, ClientFlow, PriorityLevel, WaitingLine

UNLIMITED_ROWS = 1 << 62

TIGHT_RUNS = 1.0
"""If the last job in line has less time to spare than this many full runs, time is short for all of them."""


class BatchBuilder:
    """One batch of a line in the making. It is going to run from `start_s`.

    The batch never holds more than a full one, nor more than its most urgent job allows: its p95 is over before that
    job is due. The first job is taken whatever its size. `left` are the jobs that have gone from the line: `jobs`, the
    cancelled, and `dropped`. Dropped are those that would be late even if they ran alone; and those that would make the
    batch so small that those behind it would be late (early drop: H. Shen et al., "Nexus", SOSP 2019); but none that is
    kept. `rows_per_s` is the traffic.
    """

    def __init__(self, line: WaitingLine, now_s: float, start_s: float, rows_per_s: float) -> None:
        self.jobs: list[Job] = []
        self.rows = 0
        self.dropped: list[Job] = []
        self.left: list[Job] = []
        self.left_rows = 0
        self.closed = False
        self._curve = curve = line.curve
        self._now_s = now_s
        self._start_s = start_s
        self._rows_per_s = rows_per_s
        self._waiting_rows = line.rows
        self._cap = curve.full_rows
        self._carefree_s = start_s + curve.full_p95_s

    def draw(self, level: PriorityLevel) -> None:
        """Take what fits from a level: in order of the deadlines, or in turns where several clients wait."""
        ring = level.ring
        if len(ring) == 1:
            self._draw_flow(ring[0], UNLIMITED_ROWS)
            return
        while ring and not self.closed:
            flow = ring[0]
            flow.deficit_rows -= self._draw_flow(flow, flow.deficit_rows)
            if not flow.jobs:
                ring.popleft()
                del level.flows[flow.client]
            elif not self.closed or flow.deficit_rows < flow.jobs[0].places:
                # Its turn is over; otherwise the next batch starts with it.
                flow.deficit_rows += QUANTUM_ROWS
                ring.rotate(-1)

    def _draw_flow(self, flow: ClientFlow, allowance_rows: int) -> int:
        """Take at most so many rows from the front of a flow; returns how many were taken."""
        before = self.rows
        jobs, first, looked_at = flow.jobs, 0, 0
        if jobs[0].urgent_s <= self._carefree_s or jobs[0].places > self._cap:
            first = self._first_to_keep(jobs)
        for job in jobs:
            if not job.future.done():
                if looked_at < first:
                    self.dropped.append(job)
                else:
                    places = job.rows or 1
                    if self.rows + places > self._cap and self.jobs:
                        self.closed = True
                        break
                    if places > allowance_rows:
                        break
                    allowance_rows -= places
                    self.rows += places
                    self.jobs.append(job)
            looked_at += 1
        gone = jobs[:looked_at]
        del jobs[:looked_at]
        gone_rows = places_of(gone)
        flow.rows -= gone_rows
        self.left += gone
        self.left_rows += gone_rows
        return self.rows - before

    def _first_to_keep(self, jobs: Sequence[Job]) -> int:
        """Count the jobs at the front to drop, and shrink the batch until it suits the job after them."""
        waiting_rows = self._waiting_rows - self.left_rows
        for place, job in enumerate(jobs):
            if job.future.done():
                continue
            places = job.rows or 1
            slack_s = job.due_s - self._start_s
            cap = min(self._cap, self._curve.rows_within(slack_s))
            if places > self._cap and (job.kept or self._curve.p95_s(places) <= slack_s):
                cap = places
            if job.kept:
                if job.deadline_s > self._now_s:
                    self._cap = min(self._cap, cap) if cap >= places else max(self._cap, places)
                    return place
            elif (
                job.due_s > self._now_s
                and cap >= places
                and (cap >= self._cap or not self._costs_others(cap, waiting_rows, jobs, place))
            ):
                self._cap = min(self._cap, cap)
                return place
            waiting_rows -= places
        return len(jobs)

    def _costs_others(self, rows: int, waiting_rows: int, jobs: Sequence[Job], first: int) -> bool:
        """Whether, with so few rows in this batch, those that stay behind would be late.

        Asked of the first of them, in the next batch, and of the last, after all the others in full batches.
        """
        behind_rows = waiting_rows - rows
        if behind_rows <= 0:
            return False
        curve = self._curve
        free_s = self._start_s + curve.typical_s(rows)
        spare_s = jobs[-1].due_s - free_s - behind_rows * curve.row_s
        if spare_s < 0.0:
            return True
        run_s = free_s - self._start_s
        if spare_s < TIGHT_RUNS * curve.full_p95_s and behind_rows + self._rows_per_s * run_s >= curve.full_rows:
            return True  # a small batch makes them wait nearly as long as a full one, and the next would be full too
        next_end_s = free_s + curve.typical_s(min(behind_rows, curve.full_rows))
        for job in jobs[first:]:
            rows -= job.rows or 1
            if rows < 0:
                return job.due_s < next_end_s
        return False


def places_of(jobs: Sequence[Job]) -> int:
    """The places that the jobs take up; see `Job.places`."""
    return sum([job.rows or 1 for job in jobs])
