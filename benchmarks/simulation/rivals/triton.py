"""A fixed delay and a queue timeout: `max_queue_delay_microseconds` and `default_timeout_microseconds`."""

from __future__ import annotations

from collections import deque

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.policy import Bench, Rival


class Triton(Rival):
    """Triton's dynamic batcher.

    When an instance has room, what waits is sent, up to `max_batch_rows`, if it is that much or if the oldest request
    has waited for `delay_s`. A request that has waited for longer than the objective is rejected when the batcher comes
    upon it (`default_timeout_microseconds` with the action REJECT). The queue has no other bound, as by default.
    Instances are handed one batch ahead of the one that they run.

    Source: the pages on batchers and on `ModelDynamicBatching` in Triton's documentation.
    """

    depth = 2

    def __init__(self, bench: Bench, max_batch_rows: int, delay_s: float) -> None:
        super().__init__(bench)
        self._max_rows = min(max_batch_rows, bench.machine.max_rows)
        self._delay_s = delay_s
        self._queue: deque[Request] = deque()
        self._rows = 0

    def arrive(self, request: Request) -> None:
        self._queue.append(request)
        self._rows += request.rows
        self.look()

    def look(self) -> None:
        while self._queue and self.has_room():
            self._reject_timed_out()
            if not self._queue:
                return
            due_s = self._queue[0].arrived_s + self._delay_s
            if self._rows < self._max_rows and self.now_s() < due_s:
                self.wake_at(due_s)
                return
            self.send(self._take())

    def _reject_timed_out(self) -> None:
        now_s = self.now_s()
        while self._queue and self._queue[0].arrived_s + self.bench.objective_s < now_s:
            request = self._queue.popleft()
            self._rows -= request.rows
            self.ledger.dropped(request, now_s)

    def _take(self) -> list[Request]:
        taken = take(self._queue, self._max_rows)
        self._rows -= sum([request.rows for request in taken])
        return taken


def take(queue: deque[Request], max_rows: int) -> list[Request]:
    """Take requests in order as long as they fit; the first one in any case."""
    taken = [queue.popleft()]
    rows = taken[0].rows
    while queue and rows + queue[0].rows <= max_rows:
        rows += queue[0].rows
        taken.append(queue.popleft())
    return taken
