"""The queue of one model version: what waits, in which order, and how much may wait. Pure: `now_s` is an argument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count

import msgspec

from sluice.batching.batch_builder import BatchBuilder
from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Batch, Job, Key, batch_of
from sluice.batching.waiting_lines import PriorityLevel, WaitingLine
from sluice.inference.errors import QueueFull, RequestTooLarge
from sluice.inference.types import LOWEST_PRIORITY

LOOKS_PER_REFUSAL = 8

LEAST_ENTRIES = 64

AGEING_S = 0.5
"""Jobs of one key and priority that have waited this long get every other batch, whatever is more urgent."""

PATIENCE_S = 60.0
"""A job that is due later, or never, is ordered as if due this long after it came: it is not overtaken for ever."""


class QueueStatistics(msgspec.Struct, frozen=True):
    """What waits at one moment. A job whose client has gone counts until the queue removes it."""

    jobs: int
    rows: int
    size_bytes: int
    keys: int


class Departure(msgspec.Struct, frozen=True):
    """What left the queue: a batch, if any job was left for one, and the jobs that could not be answered in time."""

    batch: Batch | None
    dropped: Sequence[Job]


class Ahead(msgspec.Struct, frozen=True):
    """What would be served before a job: `rows` that could share batches with it, and `work_s` of other keys."""

    rows: int
    work_s: float


class Queue:
    """Jobs that wait, the most urgent first.

    Order: the highest priority; within it the job that is due the earliest, and all of its key that fit with it,
    clients in turns. Jobs of one key and priority that have not had a batch for `AGEING_S` go first, but not twice in a
    row. Jobs of a lower priority fill what is left of a batch of their key.

    Bound: at most `max_rows` rows (a job without rows counts as one) and `max_bytes` bytes of inputs. What runs empty
    is dropped, so callers cannot make the number of lines grow. A job whose client has gone is never taken. It leaves
    when its turn comes, in a `sweep`, or to make room when the queue is full.

    `now_s` is monotonic time and must not go backwards from call to call. A job costs amortised constant time as long
    as jobs are due in the order in which they come, and O(jobs of its client) otherwise; a batch O(log keys).
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.rows = 0
        self.size_bytes = 0
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lines: dict[Key, WaitingLine] = {}
        self._lines_born = 0
        self.work_s = 0.0
        self._work_s = [0.0] * (LOWEST_PRIORITY + 1)
        self._urgent: list[tuple[int, float, int, int, PriorityLevel]] = []
        self._most_entries = LEAST_ENTRIES
        self._serial = count()
        self._since: deque[tuple[float, PriorityLevel]] = deque()
        self._aged_turn = False
        self._refusals_unswept = max_rows

    def push(self, job: Job, curve: LatencyCurve, now_s: float) -> None:
        """Enter a job, whose key has this curve; raises as `admit` does."""
        places = job.rows or 1
        if self.rows + places > self._max_rows or self.size_bytes + job.size_bytes > self._max_bytes:
            self.admit(places, job.size_bytes)
        job.enqueued_s = now_s
        job.urgent_s = min(job.due_s, now_s + PATIENCE_S)
        line = self._lines.get(job.key)
        if line is None:
            self._lines_born += 1
            line = self._lines[job.key] = WaitingLine(job.key, self._lines_born, curve)
        level = line.levels.get(job.priority)
        if level is None:
            level = line.levels[job.priority] = PriorityLevel(line, job.priority, now_s)
            self._since.append((now_s, level))
        is_first = job.urgent_s < level.urgent_s
        level.add(job)
        if is_first:
            self._enrol(level, job.urgent_s)
        line.rows += places
        self.rows += places
        self.size_bytes += job.size_bytes
        self.work_s += job.work_s
        self._work_s[job.priority] += job.work_s

    def admit(self, rows: int, size_bytes: int) -> None:
        """Raise `QueueFull` unless so much more may wait; `RequestTooLarge` if it could not even if nothing waited.

        What was admitted may be pushed in pieces: none of them is refused if nothing else is pushed in between.
        """
        self.must_fit(rows, size_bytes)
        if self.rows + rows > self._max_rows or self.size_bytes + size_bytes > self._max_bytes:
            self._drop_gone()
        if self.rows + rows > self._max_rows:
            raise QueueFull(f"the queue is full: {self.rows} rows wait and {rows} more would pass {self._max_rows}")
        if self.size_bytes + size_bytes > self._max_bytes:
            raise QueueFull(
                f"the queue is full: {self.size_bytes} bytes wait and {size_bytes} more would pass {self._max_bytes}"
            )

    def must_fit(self, rows: int, size_bytes: int) -> None:
        """Raise `RequestTooLarge` for what could not enter even if nothing waited."""
        if rows > self._max_rows:
            raise RequestTooLarge(f"the request has {rows} rows; the queue takes at most {self._max_rows}")
        if size_bytes > self._max_bytes:
            raise RequestTooLarge(f"the inputs have {size_bytes} bytes; the queue takes at most {self._max_bytes}")

    def ahead_of(self, job: Job) -> Ahead:
        """What would be served before a job that is not in the queue."""
        priority, line = job.priority, self._lines.get(job.key)
        work_s = sum(self._work_s[: priority + 1])
        if line is None:
            return Ahead(0, max(0.0, work_s))
        rows = 0
        for level in line.levels.values():
            if level.priority > priority:
                continue
            work_s -= level.work_s
            rows += level.rows if level.priority < priority else level.rows_ahead(job.client, job.rows, job.due_s)
        return Ahead(rows, max(0.0, work_s))

    def next_line(self, now_s: float) -> WaitingLine | None:
        """The line that `take` would turn to."""
        level = self._next_level(now_s)
        return None if level is None else level.line

    def take(self, now_s: float, start_s: float, rows_per_s: float = 0.0) -> Departure:
        """Close a batch that will run from `start_s`, as `BatchBuilder` says, and drop what could not be in time."""
        dropped: list[Job] = []
        while (level := self._next_level(now_s)) is not None:
            line = level.line
            is_aged = level is self._aged_level(now_s)
            filling = BatchBuilder(line, now_s, start_s, rows_per_s)
            for each in line.levels_from(level):
                before = len(filling.left)
                filling.draw(each)
                self._account(each, filling.left[before:])
                if each is level or len(filling.left) > before:
                    self._settle(each, now_s)
                if filling.closed or not filling.jobs:
                    break  # where the first line has no job to send, another line may be more urgent now
            dropped += filling.dropped
            if filling.jobs:
                self._aged_turn = is_aged
                return Departure(batch_of(filling.jobs), dropped)
        return Departure(None, dropped)

    def sweep(self, now_s: float) -> list[Job]:
        """Take out every job whose client has gone or whose time is over, and return the latter. O(jobs)."""
        late: list[Job] = []
        for line in list(self._lines.values()):
            for level in list(line.levels.values()):
                left: list[Job] = []
                for flow in level.ring:
                    gone = [job for job in flow.jobs if job.future.done() or job.ends_s <= now_s]
                    if gone:
                        flow.jobs = [job for job in flow.jobs if not (job.future.done() or job.ends_s <= now_s)]
                        flow.rows -= sum([job.places for job in gone])
                        left += gone
                late += [job for job in left if not job.future.done()]
                level.drop_empty_flows()
                self._account(level, left)
        self._forget_outdated()
        return late

    def __iter__(self) -> Iterator[Job]:
        """Every job that waits, line by line."""
        for line in self._lines.values():
            for level in line.levels.values():
                yield from level

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(sum([1 for _ in self]), self.rows, self.size_bytes, len(self._lines))

    def _next_level(self, now_s: float) -> PriorityLevel | None:
        """The level whose turn it is."""
        return self._aged_level(now_s) or self._most_urgent_level()

    def _aged_level(self, now_s: float) -> PriorityLevel | None:
        """The level that has waited too long, if there is one and the last batch was not for another such."""
        since = self._since
        while since and (not since[0][1].rows or since[0][0] != since[0][1].since_s):
            since.popleft()
        if self._aged_turn or len(since) < 2 or since[0][0] + AGEING_S > now_s:
            return None
        return since[0][1]

    def _most_urgent_level(self) -> PriorityLevel | None:
        """The most urgent level of the highest priority."""
        urgent = self._urgent
        while urgent:
            level = urgent[0][-1]
            if level.rows and level.urgent_s == urgent[0][1]:
                return level
            heappop(urgent)
        return None

    def _account(self, level: PriorityLevel, left: Sequence[Job]) -> None:
        """Jobs have left a level: its counts, its line's and the queue's follow, and what is empty goes."""
        if not left:
            return
        line = level.line
        places = sum([job.rows or 1 for job in left])
        work_s = sum([job.work_s for job in left])
        level.rows -= places
        level.work_s -= work_s
        level.settle()
        line.rows -= places
        self.rows -= places
        self.size_bytes -= sum([job.size_bytes for job in left])
        self.work_s -= work_s
        self._work_s[level.priority] -= work_s
        if not level.rows:
            del line.levels[level.priority]
            if not line.levels:
                del self._lines[line.key]
            if not self.rows:
                self.work_s = 0.0  # and not what rounding has left
                self._work_s = [0.0] * (LOWEST_PRIORITY + 1)

    def _settle(self, level: PriorityLevel, now_s: float) -> None:
        """A level was served: it queues up anew for its next turn, if anything is left in it."""
        if level.rows:
            level.since_s = now_s
            self._since.append((now_s, level))
            self._enrol(level, level.urgent_s)

    def _enrol(self, level: PriorityLevel, urgent_s: float) -> None:
        heappush(self._urgent, (level.priority, urgent_s, level.line.number, next(self._serial), level))
        if len(self._urgent) > self._most_entries:
            self._forget_outdated()

    def _forget_outdated(self) -> None:
        """Entries of levels that were served or have gone are dropped on top; those below are, once there are many."""
        levels = [level for line in self._lines.values() for level in line.levels.values() if level.rows]
        self._urgent = [(each.priority, each.urgent_s, each.line.number, next(self._serial), each) for each in levels]
        heapify(self._urgent)
        self._most_entries = 2 * len(levels) + LEAST_ENTRIES

    def _drop_gone(self) -> None:
        """Make room. Searching the whole queue takes time, so it is done once in as many refusals as pay for it."""
        self._refusals_unswept += 1
        if self._refusals_unswept * LOOKS_PER_REFUSAL >= self.rows:
            self._refusals_unswept = 0
            self.sweep(now_s=-math.inf)
