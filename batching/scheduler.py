"""All decisions in one place: which jobs are let in, when a batch leaves, and what goes into it. Pure."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import msgspec

from sluice.batching.admission import HOPELESS_PART, HOPELESS_RUNS, Admission, QueuedWork, alone_s, verdict
from sluice.batching.curve import LatencyCurve
from sluice.batching.curves import Curves
from sluice.batching.docket import Docket
from sluice.batching.in_flight import BatchInFlight, InFlightBatches
from sluice.batching.job import Batch, Job, JobResult, Key, batch_of
from sluice.batching.policy import Decision, Front, Growth, Reason, at_once, behind, to_idle_worker
from sluice.batching.queue import Departure, Queue
from sluice.batching.single_requests import single_requests
from sluice.batching.split import split
from sluice.batching.standby import Standby
from sluice.batching.traffic import Traffic
from sluice.batching.waiting_lines import WaitingLine
from sluice.inference.errors import DeadlineExceeded, Overloaded, QueueFull
from sluice.inference.types import Knot, Vacancy

BUDGET_PART = 0.5
"""A full batch runs for no more than this part of the objective: a request may have just missed the batch before it."""

DELIVERY_PART = 0.1
"""`delivery_s` counts for no more than this part of the objective."""

TRAFFIC_PART = 0.125
TRAFFIC_MEMORY_S = (0.01, 1.0)
"""The traffic is averaged over an eighth of the objective, within these bounds: the end of a burst is soon known."""


class BatchLimits(msgspec.Struct, frozen=True):
    """The bounds of a queue and of its batches. For a model that is not batched, `max_rows` is 1."""

    max_rows: int = 64
    max_queue_rows: int = 4096
    max_queue_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Scheduler:
    """The queue, the batches that are out, what is known of run times and traffic, and the decisions made from them.

    `now_s` is monotonic time, and must not go backwards from call to call. Without `objective_s` there is no promise,
    and nothing is held back while a worker is idle. An answer takes `delivery_s` to reach its caller, so that a job is
    due so much before its promise. See `Batcher` for what it promises as a whole.
    """

    def __init__(
        self, limits: BatchLimits, objective_s: float | None, knots: Sequence[Knot], delivery_s: float = 0.0
    ) -> None:
        self.queue = Queue(limits.max_queue_rows, limits.max_queue_bytes)
        self.again: deque[Batch] = deque()
        self.docket = Docket()
        self._max_rows = limits.max_rows
        self._objective_s = math.inf if objective_s is None else objective_s
        self._delivery_s = min(delivery_s, DELIVERY_PART * self._objective_s)
        self._curves = Curves(limits.max_rows, knots, BUDGET_PART * self._objective_s)
        least_s, most_s = TRAFFIC_MEMORY_S
        self._traffic = None if objective_s is None else Traffic(min(max(TRAFFIC_PART * objective_s, least_s), most_s))
        self.standby = Standby()
        self._in_flight = InFlightBatches()
        self._held_until_s: float | None = None
        self._workers = 1
        self._unbatched = False

    def curve_of(self, key: Key) -> LatencyCurve:
        """What is known of the run times of a key's batches."""
        return self._curves.of(key)

    def predictions(self) -> Mapping[str, Sequence[Knot]]:
        """The p95 of the run time by rows, as it is predicted now, for each key."""
        return self._curves.snapshot()

    def enter(self, job: Job, curve: LatencyCurve, now_s: float, came_s: float = math.inf) -> None:
        """Let a job in, in pieces where it has more rows than a batch; put it on standby, with an objective; or raise.

        Its promise counts from `came_s`, if that is before now.

        Raises `Overloaded` for a job that would be late for what is before it and cannot be on standby,
        `DeadlineExceeded` for one that would be late in any case, `QueueFull` and `RequestTooLarge` as `Queue.admit`.
        """
        job.work_s = (job.rows or 1) * curve.row_s
        if self._traffic is not None:
            self._traffic.arrived(job.rows, now_s)
            self._promise(job, curve, now_s, min(came_s, now_s))
        match self._foresee(job, curve, now_s):
            case Admission.ADMIT:
                self._push(job, curve, now_s)
            case Admission.INFEASIBLE:
                raise DeadlineExceeded(
                    f"the deadline is {1e3 * (job.deadline_s - now_s):.3g} ms away, and the model takes "
                    f"{1e3 * alone_s(curve, job.places):.3g} ms for such a request alone"
                )
            case Admission.OVERLOADED:
                self.queue.must_fit(job.places, job.size_bytes)
                if self._traffic is None or job.rows > curve.full_rows:
                    raise Overloaded(
                        f"overloaded: the request would not be answered in {1e3 * (job.due_s - now_s):.3g} ms; "
                        f"{self.queue.rows} rows wait"
                    )
                self.standby.add(job, curve, now_s)

    def let_in(self, now_s: float) -> None:
        """Let in those on standby that would be in time after all, the last to come first."""
        while (last := self.standby.last()) is not None:
            if self._foresee(last.job, last.curve, now_s) is not Admission.ADMIT:
                return
            try:
                self._push(last.job, last.curve, now_s)
            except QueueFull:
                return
            self.standby.remove_last()

    def decide(self, vacancy: Vacancy, now_s: float) -> Decision:
        """Whether a batch should leave now, and why; or when to look again."""
        self._workers = vacancy.workers or 1
        line = self.queue.next_line(now_s)
        suspects = bool(self.docket.waiting) and vacancy.idle + vacancy.spare > 0
        if suspects and self.docket.due_s <= now_s:
            self.again.append(self.docket.next(now_s))
        decision = self._decide(vacancy, line, now_s)
        holding = decision.reason is None and vacancy.idle > 0 and line is not None
        self._held_until_s = decision.look_again_s if holding else None
        if self._traffic is not None:
            self._traffic.watch(now_s, busy=holding or len(self._in_flight) > 0)
        return self._or_suspect(decision, vacancy, now_s) if suspects and decision.reason is None else decision

    def next_batch(self, vacancy: Vacancy, now_s: float) -> Departure:
        """The batch that is to leave, and the jobs that are too late for any."""
        if self.again:
            return self._next_again(now_s)
        start_s = now_s if vacancy.idle else now_s + self._front(now_s).left_s
        return self.queue.take(now_s, start_s, self._rows_per_s(now_s))

    def sent(self, batch: Batch, vacancy: Vacancy, now_s: float) -> BatchInFlight:
        """A batch has left, into this vacancy."""
        for job in batch.jobs:
            job.begin()
        in_flight = self._in_flight.left(batch, self._curves.used(batch.key), now_s, behind=not vacancy.idle)
        if self._traffic is not None:
            self._traffic.watch(now_s, busy=True)
        return in_flight

    def returned(self, in_flight: BatchInFlight, now_s: float) -> None:
        """A batch has come back, with an answer or without."""
        self._in_flight.returned(in_flight, self._workers, now_s)

    def sweep(self, now_s: float) -> list[Job]:
        """Take out the jobs whose clients have gone or whose time is over, and return the latter.

        Of those that were let in once, only a deadline of their caller's is over: the batch may run on without them.
        """
        late = [job for job in self._let_in_once() if job.deadline_s <= now_s and not job.future.done()]
        return [*self.queue.sweep(now_s), *late]

    def unbatch(self, gone: asyncio.Future[JobResult]) -> None:
        """Each request runs alone and whole from now on; those that had company or were in pieces go before others.

        A batch that is out goes on, and answers nobody unless its only job is whole: the others left it for `gone`.
        """
        self._unbatched = True
        self._curves.unbatch()
        again, self.again = deque([*self.again, *self.docket.waiting]), deque()
        self.docket.clear()
        for batch in (*self._in_flight, *again):
            self.again += single_requests(batch.jobs, gone, batch.deaths)
        self.again += [batch for batch in again if not batch.jobs[0].future.done()]
        for job in list(self.queue):
            self.again += single_requests([job], gone)

    def next_due_s(self) -> float:
        """When the first job that waits is to be dropped."""
        once = [job.deadline_s for job in self._let_in_once() if not job.future.done()]
        return min([*[job.ends_s for job in self.queue], *once], default=math.inf)

    def _let_in_once(self) -> Iterator[Job]:
        """Jobs that are out, or that are to be run again."""
        return chain.from_iterable([batch.jobs for batch in (*self.again, *self.docket.waiting, *self._in_flight)])

    def waiting(self) -> Iterator[Job]:
        """Jobs that have not ended and are not out."""
        again = chain.from_iterable([batch.jobs for batch in (*self.again, *self.docket.waiting)])
        return (job for job in chain(self.queue, self.standby, again) if not job.future.done())

    def _promise(self, job: Job, curve: LatencyCurve, now_s: float, came_s: float) -> None:
        """Lay the objective over the caller's own deadline."""
        job.promised_s = min(job.deadline_s, came_s + self._objective_s)
        within_s, run_s = self._objective_s - self._delivery_s, alone_s(curve, job.places)
        if run_s > HOPELESS_PART * within_s:
            job.kept, within_s = True, max(within_s, HOPELESS_RUNS * run_s)
        elif came_s + within_s < now_s + run_s:
            job.kept = True  # It came too late. If it was let in all the same, it is to be answered.
        job.due_s = min(job.deadline_s, (now_s if job.kept else came_s) + within_s)

    def _push(self, job: Job, curve: LatencyCurve, now_s: float) -> None:
        if job.rows <= self._max_rows or self._unbatched:
            self.queue.push(job, curve, now_s)
        else:
            self.queue.admit(job.rows, job.size_bytes)
            for piece in split(job, self._max_rows):
                self.queue.push(piece, curve, now_s)

    def _foresee(self, job: Job, curve: LatencyCurve, now_s: float) -> Admission:
        """Whether a job would be answered in time."""
        slack_s = job.due_s - now_s
        busy_s = self._in_flight.left_s(now_s)
        for batch in self.again:
            busy_s += self.curve_of(batch.key).typical_s(batch.rows)
        # Within this, whatever waits may all go first, and there is no need to look more closely.
        if busy_s + self.queue.work_s + 2 * job.work_s + 3 * curve.full_p95_s <= slack_s:
            return Admission.ADMIT
        load = QueuedWork(busy_s, self.queue.ahead_of(job), self._workers, self._rows_per_s(now_s))
        said = verdict(curve, job.places, job.deadline_s - now_s, slack_s, load)
        nothing_else = not (self._in_flight or self.again or self.queue.rows)
        if said is not Admission.ADMIT and nothing_else and curve.probe(now_s):
            # A probe: it must not be dropped by the prediction that it is to check.
            job.due_s, job.kept = now_s + HOPELESS_RUNS * alone_s(curve, job.places), True
            return Admission.ADMIT
        return said

    def _decide(self, vacancy: Vacancy, line: WaitingLine | None, now_s: float) -> Decision:
        rows, full_rows = (0, 1) if line is None else (line.rows, line.curve.full_rows)
        decision = at_once(vacancy, len(self.again), rows, full_rows)
        if decision is not None:
            return decision
        if not vacancy.idle:
            return behind(self._front(now_s), rows, full_rows, self._objective_s, now_s)
        return to_idle_worker(self._growth(line, now_s), now_s)

    def _or_suspect(self, decision: Decision, vacancy: Vacancy, now_s: float) -> Decision:
        """The decision when nothing else leaves: an idle worker tries a suspect, or waits until it is time for one."""
        if not self.docket.waiting:
            return decision
        if vacancy.idle:
            self.again.append(self.docket.next(now_s))
            return Decision(Reason.AGAIN)
        return Decision(None, min(decision.look_again_s, self.docket.due_s))

    def _rows_per_s(self, now_s: float) -> float:
        return 0.0 if self._traffic is None else self._traffic.rows_per_s(now_s)

    def _growth(self, line: WaitingLine | None, now_s: float) -> Growth | None:
        """What could become of a line's batch; `None` where there is nothing to wait for."""
        if self._traffic is None or self._unbatched or line is None or not line.curve.known:
            return None
        if line.rows < self.queue.rows:
            return None  # while one line is held back, a worker would stand idle before the others
        rows_per_s = self._traffic.rows_per_s(now_s)
        wanted_rows = line.curve.rows_to_keep_up(rows_per_s / self._workers)
        latest_s = line.urgent_s() - line.curve.p95_s(max(wanted_rows, line.rows))
        return Growth(line.rows, wanted_rows, rows_per_s, latest_s, self._held_until_s)

    def _front(self, now_s: float) -> Front:
        """The batch that the next one would wait behind."""
        in_flight = self._in_flight.front()
        if in_flight is None:
            return Front(0, 0.0, 0.0)
        return Front(in_flight.batch.rows, in_flight.run_s, in_flight.left_s(now_s))

    def _next_again(self, now_s: float) -> Departure:
        """What is left of a batch that was let in once: a late answer is better than none, up to its deadlines."""
        batch = self.again.popleft()
        waiting = [job for job in batch.jobs if not job.future.done()]
        late = [job for job in waiting if job.deadline_s <= now_s]
        left = [job for job in waiting if job.deadline_s > now_s]
        return Departure(batch_of(left, batch.deaths, batch.weight) if left else None, late)
