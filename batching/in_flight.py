"""The batches that are out: when they should come back. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Batch


class BatchInFlight(msgspec.Struct, eq=False):
    """One batch that is out, the curve of its key, and what such a batch usually takes.

    `began_s` is meaningless while it waits behind another.
    """

    batch: Batch
    curve: LatencyCurve
    run_s: float
    began_s: float

    def left_s(self, now_s: float) -> float:
        """How much of a run that has begun is left, in seconds."""
        return max(0.0, self.began_s + self.run_s - now_s)


class InFlightBatches:
    """All batches that are out, and how long the workers have to do with them.

    Only the executor knows which worker has which batch. Here each worker is taken to run one, and to go on with the
    batch that has waited the longest: exact for one worker, and close for several, as they take turns.
    """

    def __init__(self) -> None:
        self._running: list[BatchInFlight] = []
        self._behind: deque[BatchInFlight] = deque()

    def left(self, batch: Batch, curve: LatencyCurve, now_s: float, *, behind: bool) -> BatchInFlight:
        """A batch has been sent, to an idle worker or `behind` a running one."""
        in_flight = BatchInFlight(batch, curve, curve.typical_s(batch.rows), now_s)
        if behind and self._running:
            self._behind.append(in_flight)
        else:
            self._running.append(in_flight)
        return in_flight

    def returned(self, in_flight: BatchInFlight, workers: int, now_s: float) -> None:
        """A batch has come back to one of `workers`, with an answer or without."""
        if in_flight in self._behind:
            self._step_back(in_flight)
        self._running.remove(in_flight)
        while self._behind and len(self._running) < workers:
            following = self._behind.popleft()
            following.began_s = now_s
            self._running.append(following)

    def left_s(self, now_s: float) -> float:
        """The time that all workers together have still to do with these batches."""
        left_s = 0.0
        for in_flight in self._running:
            left_s += in_flight.left_s(now_s)
        for in_flight in self._behind:
            left_s += in_flight.run_s
        return left_s

    def front(self) -> BatchInFlight | None:
        """The batch that should end first of those that none waits behind."""
        if len(self._running) == 1 and not self._behind:
            return self._running[0]
        # Those that wait are behind the ones that end first, so the next comes behind the first of the rest.
        by_end = sorted(self._running, key=_end_s)[len(self._behind) :]
        return by_end[0] if by_end else None

    def __len__(self) -> int:
        return len(self._running) + len(self._behind)

    def __iter__(self) -> Iterator[Batch]:
        """Every batch that is out."""
        for in_flight in (*self._running, *self._behind):
            yield in_flight.batch

    def _step_back(self, in_flight: BatchInFlight) -> None:
        """A batch was before the one that was thought to have begun last: they change places."""
        self._behind.remove(in_flight)
        if self._running:
            last = max(self._running, key=_began_s)
            self._running.remove(last)
            self._behind.appendleft(last)
        self._running.append(in_flight)


def _began_s(in_flight: BatchInFlight) -> float:
    return in_flight.began_s


def _end_s(in_flight: BatchInFlight) -> float:
    return in_flight.began_s + in_flight.run_s
