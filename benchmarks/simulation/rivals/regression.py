"""A straight line through recent run times, and a wait that is worth it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.policy import Bench, Rival
from benchmarks.simulation.rivals.triton import take
from benchmarks.simulation.server import Ran

SAMPLES = 50
SKIPPED_SAMPLES = 2
REFRESH_S = 5.0
TICK_S = 0.001
DECAY = 0.95
FIRST_WAIT_S = 0.01


class Regression(Rival):
    """BentoML's adaptive batching ("cork").

    The run time of n rows is taken to be a·n + b, fitted by least squares to the last 50 batches, every five seconds.
    A loop looks at the queue once each millisecond, or when a request comes to an empty queue. It drops the oldest
    request if its wait and the run time of the whole queue would pass the objective. It holds a batch back while the
    delay that this costs all n requests, n·(time since the newest + a tick + a), is below 0.95 times the mean time
    for which the newest request of recent batches had waited. As many batches run at a time as there are workers.

    Source: BentoML's documentation on adaptive batching and the behaviour of `CorkDispatcher` in its runner.
    """

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.row_s = min(2.0, bench.objective_s * 2 / 30)
        self.base_s = min(1.0, bench.objective_s / 30)
        self._wait_s = FIRST_WAIT_S
        self._queue: deque[Request] = deque()
        self._rows = 0
        self._samples: deque[tuple[int, float, float]] = deque(maxlen=SAMPLES)
        self._batches = 0
        self._refreshed_s = -REFRESH_S
        self._asleep = False
        self._waits_s: dict[int, float] = {}

    def arrive(self, request: Request) -> None:
        self._queue.append(request)
        self._rows += request.rows
        self.look()

    def look(self) -> None:
        while self._queue and not self._asleep:
            self._step()

    def ended(self, requests: Sequence[Request], ran: Ran) -> None:
        self._batches += 1
        wait_s = self._waits_s.pop(requests[0].index)
        if self._batches <= SKIPPED_SAMPLES:
            return
        self._samples.append((ran.rows, ran.kept_s, wait_s))
        now_s = self.now_s()
        if now_s - self._refreshed_s >= REFRESH_S or len(self._samples) <= SKIPPED_SAMPLES:
            self._refreshed_s = now_s
            self._refresh()

    def _step(self) -> None:
        now_s = self.now_s()
        waited_s = now_s - self._queue[0].arrived_s
        several = len(self._queue) > 1
        if several and waited_s + self.row_s * self._rows + self.base_s >= self.bench.objective_s:
            self._drop_oldest()
        elif not self.has_room():
            if not several and waited_s >= self.bench.objective_s:
                self._drop_oldest()
            else:
                self._sleep()
        elif self._rows < self.bench.machine.max_rows and self._worth_waiting(now_s):
            self._sleep()
        else:
            batch = take(self._queue, self.bench.machine.max_rows)
            self._rows -= sum([request.rows for request in batch])
            self._waits_s[batch[0].index] = now_s - batch[-1].arrived_s
            self.send(batch)

    def _worth_waiting(self, now_s: float) -> bool:
        newest_s = now_s - self._queue[-1].arrived_s
        return len(self._queue) * (newest_s + TICK_S + self.row_s) <= self._wait_s * DECAY

    def _drop_oldest(self) -> None:
        request = self._queue.popleft()
        self._rows -= request.rows
        self.ledger.dropped(request, self.now_s())

    def _sleep(self) -> None:
        self._asleep = True
        self.bench.loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._asleep = False
        self.look()

    def _refresh(self) -> None:
        rows, run_s, wait_s = np.array(self._samples).T
        (row_s, base_s), *_ = np.linalg.lstsq(np.column_stack([rows, np.ones_like(rows)]), run_s, rcond=None)
        self.row_s, self.base_s = max(1e-6, float(row_s)), max(0.0, float(base_s))
        self._wait_s = float(wait_s.mean())
