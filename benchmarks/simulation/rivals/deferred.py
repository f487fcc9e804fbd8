"""Send each batch at the latest moment at which it still pays to wait."""

from __future__ import annotations

from benchmarks.simulation.policy import Bench
from benchmarks.simulation.rivals.early_drop import EarlyDrop
from benchmarks.simulation.rivals.profiled import largest_in
from benchmarks.simulation.rivals.triton import take


class Deferred(EarlyDrop):
    """Symphony: deferred batch scheduling.

    The candidate batch is the longest run of requests from the head that can end by the head's deadline. It is
    schedulable from the moment when one row more would no longer end in time (or when it is full) until the moment
    when it would not end in time itself; in between the first free worker takes it. Heads are dropped where the batch
    that they leave time for is smaller than what waits and than the target, which is the largest batch b with
    (1 + 1/workers)·l(b) within the objective: the staggered execution of the paper.

    Source: Chen et al., "Symphony: Optimized DNN Model Serving using Deferred Batch Scheduling", arXiv:2308.07470,
    sections 3 and 4.
    """

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        share = 1 + 1 / bench.machine.workers
        self.target_rows = largest_in(self.profile_s, bench.objective_s / share)

    def look(self) -> None:
        while self.queue and (place := self.next_start()) is not None:
            worker, start_s = place
            self.slide(start_s, self.target_rows)
            if not self.queue:
                return
            deadline_s = self.deadline_s(self.queue[0])
            candidate_rows = max(1, self.fitting_rows(start_s, deadline_s))
            schedulable_s = self._schedulable_s(candidate_rows, deadline_s)
            if start_s < schedulable_s:
                self.wake_at(schedulable_s - self.bench.machine.transit_s)
                return
            self.dispatch(take(self.queue, candidate_rows), worker, start_s)

    def _schedulable_s(self, candidate_rows: int, deadline_s: float) -> float:
        """When the candidate cannot grow any more: at once if more waits than it may hold."""
        if self.waiting_rows >= min(candidate_rows, self.bench.machine.max_rows):
            return 0.0
        return deadline_s - self.profile_s[self.waiting_rows + 1]
