"""Drop early what would keep later requests from travelling in a large batch."""

from __future__ import annotations

from itertools import islice

from benchmarks.simulation.policy import Bench
from benchmarks.simulation.rivals.profiled import Profiled, largest_in
from benchmarks.simulation.rivals.triton import take


class EarlyDrop(Profiled):
    """Nexus: eager dispatch with early drop.

    The target batch is the largest one of which two in a row keep the objective. When a worker is free, a window of
    so many rows slides along the queue; it stops at the first request whose deadline leaves time to run the whole
    window. What is before it is dropped, the window is sent. A shorter queue is one window.

    Source: Shen et al., "Nexus: A GPU Cluster Engine for Accelerating DNN-Based Video Analysis", SOSP 2019, sections
    4.1 and 6.3.
    """

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.target_rows = largest_in(self.profile_s, bench.objective_s / 2)

    def look(self) -> None:
        while self.queue and (place := self.next_start()) is not None:
            worker, start_s = place
            self.slide(start_s, self.target_rows)
            if self.queue:
                self.dispatch(take(self.queue, self.target_rows), worker, start_s)

    def slide(self, start_s: float, target_rows: int) -> None:
        """Drop requests until the first one leaves time for the window that begins with it."""
        while self.queue:
            window_rows = min(self._window_rows(target_rows), self.bench.machine.max_rows)
            if start_s + self.profile_s[window_rows] <= self.deadline_s(self.queue[0]):
                return
            self.drop_first()

    def _window_rows(self, target_rows: int) -> int:
        if self.waiting_rows <= target_rows:
            return self.waiting_rows
        rows = 0
        for request in islice(self.queue, target_rows):
            if rows and rows + request.rows > target_rows:
                break
            rows += request.rows
        return rows
