"""What the policies have in common whose papers take exact latency profiles for granted."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from functools import partial

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.policy import Bench, Rival
from benchmarks.simulation.server import Ran


class Profiled(Rival):
    """A queue in order of deadlines, the p95 of the true curve, and a forecast of when each worker will be free.

    A batch is sent so far ahead of that time that it has travelled when the worker is free, as the papers do to
    overlap the way with the run.
    """

    depth = 2

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        machine = bench.machine
        self.queue: deque[Request] = deque()
        self.waiting_rows = 0
        self.profile_s = [0.0, *[machine.p95_run_s(rows) for rows in range(1, machine.max_rows + 1)]]
        self._free_s = [0.0] * machine.workers
        self._out: list[deque[int]] = [deque() for _ in range(machine.workers)]

    def arrive(self, request: Request) -> None:
        self.queue.append(request)
        self.waiting_rows += request.rows
        self.look()

    def next_start(self) -> tuple[int, float] | None:
        """The worker that could begin a batch first, and when; `None`, with the alarm set, if that is not near yet."""
        now_s, transit_s = self.now_s(), self.bench.machine.transit_s
        places = [
            (self._free_s[worker] if out else 0.0, worker)
            for worker, out in enumerate(self._out)
            if len(out) < self.depth
        ]
        if not places:
            return None
        free_s, worker = min(places)
        if free_s - transit_s > now_s:
            self.wake_at(free_s - transit_s)
            return None
        return worker, max(free_s, now_s + transit_s)

    def fitting_rows(self, start_s: float, end_s: float) -> int:
        """The rows of the largest batch that ends in time if it starts then; zero if none does."""
        return bisect_right(self.profile_s, end_s - start_s) - 1

    def deadline_s(self, request: Request) -> float:
        return request.arrived_s + self.bench.objective_s

    def drop_first(self) -> None:
        request = self.queue.popleft()
        self.waiting_rows -= request.rows
        self.ledger.dropped(request, self.now_s())

    def dispatch(self, requests: Sequence[Request], worker: int, start_s: float) -> None:
        """Send the batch, which was taken from the queue, to a worker that is to begin it at `start_s`."""
        rows = sum([request.rows for request in requests])
        self.waiting_rows -= rows
        self._out[worker].append(rows)
        self._free_s[worker] = start_s + self.bench.machine.curve.run_s(rows)
        self.server.put(rows, partial(self._left, requests), worker=worker)

    def _left(self, requests: Sequence[Request], ran: Ran) -> None:
        out = self._out[ran.worker]
        out.popleft()
        if out:
            self._free_s[ran.worker] = ran.ended_s + self.bench.machine.curve.run_s(out[0])
        self.ledger.answered(requests, ran.ended_s)


def largest_in(profile_s: Sequence[float], budget_s: float) -> int:
    """The rows of the largest batch whose run time is within the budget; at least one."""
    return max(1, bisect_right(profile_s, budget_s) - 1)
