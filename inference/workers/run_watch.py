"""Watches one running batch: whether its worker computes, stands still, or has run for too long."""

from __future__ import annotations

import math
from collections.abc import Callable

from sluice.inference.types import Cause
from sluice.inference.workers.vitals import LOOK_S, STOPPED_LOOKS, Vitals, vitals

AT_WORK_PART = 0.1
"""A worker that had a processor for less than this part of the time did not compute. Its batch may be a quick one."""

SHORTEST_S = 0.5
"""The shortest time over which processor time is compared: the kernel counts it too coarsely for less."""


class RunWatch:
    """Looks at a worker every `LOOK_S` while it runs one batch.

    Tells apart two reasons why a batch does not end. Either the worker computes for longer than the batch may take, or
    it does not compute at all: it is stopped, gets no processor time, or waits for something. In the latter case the
    batch is not to blame. Time in which this process stood still does not count, for the worker may have stood still
    with it.

    Times are on the monotonic clock. `look_at` is for tests.
    """

    def __init__(self, pid: int, look_at: Callable[[int], Vitals | None] = vitals) -> None:
        self._pid = pid
        self._look_at = look_at
        self._limit_s = self._ends_s = self._next_s = math.inf
        self._first: tuple[float, float] | None = None
        self._stopped = 0

    @property
    def due_s(self) -> float:
        """When to call `look` next."""
        return min(self._next_s, self._ends_s)

    def begin(self, limit_s: float, now_s: float) -> None:
        """Begins to watch a batch that may run for `limit_s`."""
        self._limit_s, self._ends_s = limit_s, now_s + limit_s
        self._next_s = now_s + min(LOOK_S, 0.5 * limit_s)
        self._first = None
        self._stopped = 0

    def look(self, now_s: float) -> tuple[Cause, str] | None:
        """Why the worker must be killed now, with plain words; `None` if it may go on. To be called at `due_s`."""
        if now_s < self.due_s:
            return None
        late_s = now_s - self.due_s
        seen = self._look_at(self._pid)
        if late_s > LOOK_S:
            self._ends_s += late_s + LOOK_S  # it may have stood still since the look before
            self._first = None
        self._next_s = now_s + LOOK_S
        if now_s >= self._ends_s:
            return self._overdue(seen, now_s)
        if seen is None:
            return None
        if self._first is None:
            self._first = (now_s, seen.cpu_s)
        self._stopped = self._stopped + 1 if seen.stopped else 0
        if self._stopped < STOPPED_LOOKS:
            return None
        return Cause.FROZEN, "was killed: it had been stopped, and did not run its batch"

    def _overdue(self, seen: Vitals | None, now_s: float) -> tuple[Cause, str]:
        how = f"was killed: a batch ran for longer than {self._limit_s:g} s"
        if seen is None or self._first is None:
            return Cause.TOO_LONG, how
        since_s, cpu_s = self._first
        passed_s, computed_s = now_s - since_s, seen.cpu_s - cpu_s
        if seen.stopped or (passed_s >= SHORTEST_S and computed_s < AT_WORK_PART * passed_s):
            return Cause.FROZEN, f"{how}, and it computed for {computed_s:.2g} s of the last {passed_s:.2g} s"
        return Cause.TOO_LONG, how
