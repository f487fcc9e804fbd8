"""The order within a queue: lines of equal keys, levels of equal priority, flows of one client each. Pure.

    Queue ── WaitingLine (one key) ── PriorityLevel (one priority) ── ClientFlow (one client): jobs, first due first

Flows of a level take turns by deficit round robin: M. Shreedhar and G. Varghese, "Efficient Fair Queuing using Deficit
Round Robin", SIGCOMM 1995. Within a flow the earliest deadline is first.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Job, Key

QUANTUM_ROWS = 8
"""Rows that a client may send in each round, while others wait beside it."""

COUNTED_JOBS = 256
"""The rows of more jobs than these are estimated from the average: counting them takes too long for each request."""

_URGENT = attrgetter("urgent_s")


class ClientFlow:
    """The jobs of one client in a level, by `urgent_s`, then by arrival. `deficit_rows` is what its turns have left."""

    __slots__ = ("client", "deficit_rows", "jobs", "rows")

    def __init__(self, client: str) -> None:
        self.client = client
        self.jobs: list[Job] = []
        self.rows = 0
        self.deficit_rows = QUANTUM_ROWS

    def rows_before(self, urgent_s: float) -> int:
        """The rows that go before a job that comes now."""
        jobs = self.jobs
        if not jobs or urgent_s >= jobs[-1].urgent_s:
            return self.rows
        place = bisect_right(jobs, urgent_s, key=_URGENT)
        if place > COUNTED_JOBS:
            return self.rows * place // len(jobs)
        return sum([job.rows or 1 for job in jobs[:place]])


class PriorityLevel:
    """The jobs of one key and one priority.

    `urgent_s` is when the most urgent is due, `since_s` when the level was last served, or began to wait.
    """

    __slots__ = ("flows", "line", "priority", "ring", "rows", "since_s", "urgent_s", "work_s")

    def __init__(self, line: WaitingLine, priority: int, now_s: float) -> None:
        self.line = line
        self.priority = priority
        self.flows: dict[str, ClientFlow] = {}
        self.ring: deque[ClientFlow] = deque()
        self.rows = 0
        self.work_s = 0.0
        self.since_s = now_s
        self.urgent_s = math.inf

    def add(self, job: Job) -> None:
        """Put a job behind the others of its client that are due before it."""
        flow = self.flows.get(job.client)
        if flow is None:
            flow = self.flows[job.client] = ClientFlow(job.client)
            self.ring.append(flow)
        jobs, places, urgent_s = flow.jobs, job.rows or 1, job.urgent_s
        if not jobs or urgent_s >= jobs[-1].urgent_s:
            jobs.append(job)
        else:
            insort(jobs, job, key=_URGENT)
        flow.rows += places
        self.rows += places
        self.work_s += job.work_s
        if urgent_s < self.urgent_s:
            self.urgent_s = urgent_s

    def settle(self) -> None:
        """Work out anew what is most urgent, once jobs have left."""
        ring = self.ring
        if len(ring) == 1:
            self.urgent_s = ring[0].jobs[0].urgent_s if ring[0].jobs else math.inf
        else:
            self.urgent_s = min([flow.jobs[0].urgent_s for flow in ring if flow.jobs], default=math.inf)

    def rows_ahead(self, client: str, rows: int, urgent_s: float) -> int:
        """The rows that would be served before the last of a job's `rows`, beside its own."""
        flow = self.flows.get(client)
        if flow is not None and len(self.flows) == 1:
            return flow.rows_before(urgent_s)
        own = 0 if flow is None else flow.rows_before(urgent_s)
        others = len(self.flows) - (flow is not None)
        return own + min(self.rows - (flow.rows if flow else 0), others * (own + max(rows, QUANTUM_ROWS)))

    def drop_empty_flows(self) -> None:
        """Forget the clients of which nothing waits any more."""
        if all([flow.jobs for flow in self.ring]):
            return
        self.ring = deque([flow for flow in self.ring if flow.jobs])
        self.flows = {flow.client: flow for flow in self.ring}

    def __iter__(self) -> Iterator[Job]:
        """Every job, client by client."""
        for flow in self.ring:
            yield from flow.jobs


class WaitingLine:
    """The jobs of one key, which may share batches. `number` settles ties between lines."""

    __slots__ = ("curve", "key", "levels", "number", "rows")

    def __init__(self, key: Key, number: int, curve: LatencyCurve) -> None:
        self.key = key
        self.number = number
        self.curve = curve
        self.rows = 0
        self.levels: dict[int, PriorityLevel] = {}

    def urgent_s(self) -> float:
        """When its most urgent job is due. There must be one."""
        return min([level.urgent_s for level in self.levels.values()])

    def levels_from(self, first: PriorityLevel) -> list[PriorityLevel]:
        """`first`, and then the others by priority."""
        if len(self.levels) == 1:
            return [first]
        others = sorted([level for level in self.levels.values() if level is not first], key=attrgetter("priority"))
        return [first, *others]
