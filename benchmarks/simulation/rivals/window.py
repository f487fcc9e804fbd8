"""A fixed window: `max_batch_size` and `batch_timeout`."""

from __future__ import annotations

from collections import deque

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.policy import Bench, Rival

ENQUEUED_BATCHES = 10


class _Forming:
    __slots__ = ("opened_s", "requests", "rows")

    def __init__(self, opened_s: float) -> None:
        self.opened_s = opened_s
        self.requests: list[Request] = []
        self.rows = 0


class Window(Rival):
    """TensorFlow Serving's batch scheduler.

    Requests join the newest batch; if it would grow past `max_batch_rows`, a new one is opened. A batch may be sent
    once it is full, once another one was opened behind it, or once `timeout_s` have passed since it was opened; until
    a worker is free it may still grow. At most `enqueued_batches` wait (ten is the library's default of
    `max_enqueued_batches`); beyond that a request is refused. It knows no deadlines. A request larger than the setting
    travels alone.

    Source: the batching guide of TensorFlow Serving and the comments on `SharedBatchScheduler` and
    `BasicBatchScheduler` in `tensorflow/core/kernels/batching_util`.
    """

    def __init__(
        self, bench: Bench, max_batch_rows: int, timeout_s: float, enqueued_batches: int = ENQUEUED_BATCHES
    ) -> None:
        super().__init__(bench)
        self._max_rows = min(max_batch_rows, bench.machine.max_rows)
        self._timeout_s = timeout_s
        self._most = enqueued_batches
        self._waiting: deque[_Forming] = deque()

    def arrive(self, request: Request) -> None:
        if not self._waiting or self._waiting[-1].rows + request.rows > self._max_rows:
            if len(self._waiting) >= self._most:
                self.ledger.refused(request)
                return
            self._waiting.append(_Forming(self.now_s()))
        batch = self._waiting[-1]
        batch.requests.append(request)
        batch.rows += request.rows
        self.look()

    def look(self) -> None:
        while self._waiting and self.has_room():
            first = self._waiting[0]
            due_s = first.opened_s + self._timeout_s
            if first.rows < self._max_rows and len(self._waiting) == 1 and self.now_s() < due_s:
                self.wake_at(due_s)
                return
            self.send(self._waiting.popleft().requests)
