"""A batch size that grows by addition and shrinks by multiplication."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.policy import Bench, Rival
from benchmarks.simulation.rivals.triton import take
from benchmarks.simulation.server import Ran

INCREASE_ROWS = 2
BACKOFF = 0.9


class Aimd(Rival):
    """Clipper's adaptive batching.

    When a worker is free, up to `limit_rows` of what waits are sent at once (delayed batching is off). After a batch
    that had as many and was run within the objective the limit grows by a fixed amount; after one that took longer it
    shrinks by 10 %. Requests whose deadline has passed are dropped when their turn comes.

    Source: Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System", NSDI 2017, sections 4.3.1 and
    4.3.2.
    """

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.limit_rows = 1.0
        self._queue: deque[Request] = deque()

    def arrive(self, request: Request) -> None:
        self._queue.append(request)
        self.look()

    def look(self) -> None:
        while self._queue and self.has_room():
            now_s = self.now_s()
            if self._queue[0].arrived_s + self.bench.objective_s <= now_s:
                self.ledger.dropped(self._queue.popleft(), now_s)
            else:
                self.send(take(self._queue, int(self.limit_rows)))

    def ended(self, requests: Sequence[Request], ran: Ran) -> None:
        if ran.kept_s > self.bench.objective_s:
            self.limit_rows = max(1.0, self.limit_rows * BACKOFF)
        elif ran.rows >= int(self.limit_rows):
            self.limit_rows = min(self.limit_rows + INCREASE_ROWS, self.bench.machine.max_rows)
