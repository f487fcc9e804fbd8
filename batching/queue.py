"""The queue of one model version: who waits, in which order, and how much may wait. Pure: `now_s` is an argument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from batching.job import Batch, Job, Key, batch_of
from inference.errors import QueueFull, RequestTooLarge

LOOKS_PER_REFUSAL = 8


class QueueStatistics(msgspec.Struct, frozen=True):
    """What waits at one moment. A job whose client has gone counts until it is come upon."""

    jobs: int
    rows: int
    size_bytes: int
    keys: int


class Taken(msgspec.Struct, frozen=True):
    """What left the queue: a batch, if any job was left for one, and the jobs whose deadline passed as they waited."""

    batch: Batch | None
    expired: Sequence[Job]


class Queue:
    """Jobs in order of arrival, one line for each key.

    Bound: at most `max_rows` rows (a job without rows counts as one) and `max_bytes` bytes of inputs. Lines that run
    empty are dropped, so callers cannot make their number grow. A job whose client has gone is never taken. It leaves
    when its turn comes, in a `sweep`, or to make room when the queue is full.

    `now_s` is monotonic time and must not go backwards from call to call. A job costs amortised constant time, a
    batch O(log keys).
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.rows = 0
        self.size_bytes = 0
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lines: dict[Key, _Line] = {}
        self._heads: list[tuple[float, int, _Line]] = []
        self._lines_born = 0
        self._refusals_unswept = max_rows

    def push(self, job: Job, now_s: float) -> None:
        """Append a job; raises as `admit` does."""
        places = job.rows or 1
        if self.rows + places > self._max_rows or self.size_bytes + job.size_bytes > self._max_bytes:
            self.admit(places, job.size_bytes)
        job.enqueued_s = now_s
        line = self._lines.get(job.key)
        if line is None:
            self._lines_born += 1
            line = self._lines[job.key] = _Line(job.key, self._lines_born)
            heappush(self._heads, (now_s, line.number, line))
        line.jobs.append(job)
        line.rows += places
        self.rows += places
        self.size_bytes += job.size_bytes

    def admit(self, rows: int, size_bytes: int) -> None:
        """Raise `QueueFull` unless so much more may wait; `RequestTooLarge` if it could not even if nothing waited.

        What was admitted may be pushed in pieces: none of them is refused if nothing else is pushed in between.
        """
        if rows > self._max_rows:
            raise RequestTooLarge(f"the request has {rows} rows; the queue takes at most {self._max_rows}")
        if size_bytes > self._max_bytes:
            raise RequestTooLarge(f"the inputs have {size_bytes} bytes; the queue takes at most {self._max_bytes}")
        if self.rows + rows > self._max_rows or self.size_bytes + size_bytes > self._max_bytes:
            self._drop_gone()
        if self.rows + rows > self._max_rows:
            raise QueueFull(f"the queue is full: {self.rows} rows wait and {rows} more would pass {self._max_rows}")
        if self.size_bytes + size_bytes > self._max_bytes:
            raise QueueFull(
                f"the queue is full: {self.size_bytes} bytes wait and {size_bytes} more would pass {self._max_bytes}"
            )

    def take(self, max_rows: int, now_s: float) -> Taken:
        """Close a batch: of the line whose first job is the oldest, as many whole jobs in order as fit `max_rows`.

        The first job is taken whatever its size. `expired` are jobs past their deadline that were come upon.
        """
        expired: list[Job] = []
        while self._heads:
            line = heappop(self._heads)[-1]
            self._drop_dead_head(line, now_s, expired)
            if line.jobs and not self._is_oldest(line):
                self._enrol(line)
                continue
            jobs = self._fill(line, max_rows, now_s, expired)
            if line.jobs:
                self._enrol(line)
            else:
                del self._lines[line.key]
            if jobs:
                return Taken(batch_of(jobs), expired)
        return Taken(None, expired)

    def sweep(self, now_s: float) -> list[Job]:
        """Take out every job whose client has gone or whose deadline has passed, and return the latter. O(jobs)."""
        expired: list[Job] = []
        for line in list(self._lines.values()):
            kept: deque[Job] = deque()
            for job in line.jobs:
                if job.future.done():
                    self._leave(line, job)
                elif job.deadline_s <= now_s:
                    self._leave(line, job)
                    expired.append(job)
                else:
                    kept.append(job)
            line.jobs = kept
            if not kept:
                del self._lines[line.key]
        self._heads = [(line.jobs[0].enqueued_s, line.number, line) for line in self._lines.values()]
        heapify(self._heads)
        return expired

    def next_rows(self) -> int:
        """Rows in the line that `take` would turn to: what the next batch could have if it were not bounded."""
        return self._heads[0][-1].rows if self._heads else 0

    def __iter__(self) -> Iterator[Job]:
        """Every job that waits, line by line."""
        for line in self._lines.values():
            yield from line.jobs

    def statistics(self) -> QueueStatistics:
        """A snapshot."""
        jobs = sum([len(line.jobs) for line in self._lines.values()])
        return QueueStatistics(jobs, self.rows, self.size_bytes, len(self._lines))

    def _drop_gone(self) -> None:
        """Make room. Looking through the queue takes time, so it waits for as many refusals as pay for it."""
        self._refusals_unswept += 1
        if self._refusals_unswept * LOOKS_PER_REFUSAL >= self.rows:
            self._refusals_unswept = 0
            self.sweep(now_s=-math.inf)

    def _enrol(self, line: _Line) -> None:
        heappush(self._heads, (line.jobs[0].enqueued_s, line.number, line))

    def _is_oldest(self, line: _Line) -> bool:
        """Whether no other line has an older first job, now that the dead at the head of this one are gone."""
        return not self._heads or (line.jobs[0].enqueued_s, line.number) < self._heads[0][:2]

    def _drop_dead_head(self, line: _Line, now_s: float, expired: list[Job]) -> None:
        while line.jobs:
            job = line.jobs[0]
            if not job.future.done():
                if job.deadline_s > now_s:
                    return
                expired.append(job)
            self._leave(line, line.jobs.popleft())

    def _fill(self, line: _Line, max_rows: int, now_s: float, expired: list[Job]) -> list[Job]:
        jobs: list[Job] = []
        filled = size_bytes = 0
        waiting = line.jobs
        while waiting:
            job = waiting[0]
            if job.future.done():
                self._leave(line, waiting.popleft())
            elif job.deadline_s <= now_s:
                expired.append(job)
                self._leave(line, waiting.popleft())
            else:
                places = job.rows or 1
                if filled + places > max_rows and jobs:
                    break
                jobs.append(waiting.popleft())
                filled += places
                size_bytes += job.size_bytes
        line.rows -= filled
        self.rows -= filled
        self.size_bytes -= size_bytes
        return jobs

    def _leave(self, line: _Line, job: Job) -> None:
        line.rows -= job.places
        self.rows -= job.places
        self.size_bytes -= job.size_bytes


class _Line:
    """The jobs of one key in order of arrival; `rows` counts their places, `number` settles ties between lines."""

    __slots__ = ("jobs", "key", "number", "rows")

    def __init__(self, key: Key, number: int) -> None:
        self.key = key
        self.number = number
        self.jobs: deque[Job] = deque()
        self.rows = 0
