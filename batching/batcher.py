"""The batcher: drives one queue, sends batches to the workers, and ends every job exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol

from sluice.batching.alarm import Alarm
from sluice.batching.allowance import LEAST_ROWS, Allowance
from sluice.batching.drain_rate import DrainRate
from sluice.batching.in_flight import BatchInFlight
from sluice.batching.job import Batch, Job, JobResult, Key, size_bytes
from sluice.batching.policy import Reason, after_dispatch
from sluice.batching.recovery import after_death, after_failure
from sluice.batching.report import BatcherStatistics, BatchOutcome, BatchReport
from sluice.batching.scheduler import BatchLimits, Scheduler
from sluice.inference.errors import (
    DeadlineExceeded,
    ModelFailed,
    ModelNotReady,
    Overloaded,
    QueueFull,
    WorkerDied,
    WorkerKilled,
)
from sluice.inference.types import DEFAULT_PRIORITY, Arrays, BatchResult, Death, Knot, Trace, Vacancy

__all__ = ["BatchLimits", "BatchReport", "Batcher", "Executor"]

SWEEP_SPACING_S = 0.02
"""A job whose time is over ends at most this much later: the queue is swept no more often."""

STUCK_RUNS, STUCK_S = 20.0, 5.0
"""A batch that has run for this many times its p95, and for at least this long, is stuck."""

OVERSHOOT_PART = 0.5
"""A request is refused here where the allowance is exceeded by more than this part. One that has passed the gate is not
refused because of others that came meanwhile, while one that came by another way still has a limit."""


class Executor(Protocol):
    """What the batcher needs of the workers."""

    def vacancy(self) -> Vacancy:
        """The free places now. The executor calls `wake` when there may be more."""
        ...

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        """Stack the parts and run them. Called only into a vacancy, which it fills before it first waits.

        A batch that runs for longer than `limit_s` is stuck, and its worker is to be replaced. Raises `ModelFailed` if
        the engine raised, `WorkerDied` if the process ended, and bears cancellation.
        """
        ...


class Batcher:
    """Jobs in, answers out, in batches. An async context manager that owns its queue, timers and one task per batch.

    Every future that `submit` returns is ended exactly once: with a result, with an error, or by its owner's cancel.
    Leaving refuses new jobs, waits at most `drain_timeout_s` for the accepted ones and ends the rest with
    `ModelNotReady`; the executor must live until then.

    `objective_s` is the promise: each request is to be answered within so many seconds. With it, requests that could
    not be are refused when they come or dropped when their turn comes, and batches are held back where they gain by it.
    Without one, nothing waits while a worker is idle, but for the rest of one turn of the event loop, so that all
    requests read in the same turn travel together. `knots` are measurements from which the prediction starts;
    `delivery_s` is what an answer takes from here to its caller. `allowance` is for whoever lets requests in, and is
    told of answers.

    Bounds: the queue holds what `limits` says; beyond it there are only batches in the executor's places, and those
    that came back from them.

    A batch whose worker died, or that the model failed, is run again before the queue as `batching.recovery` says, so
    that only a guilty job fails: with the model's own error, or with `WorkerKilled`. So does a job of the same input,
    without being run, for a while after. Any other exception of the executor ends the jobs of its batch with that
    exception.

    `on_batch` is called once for each batch that a worker began. All methods belong to the event loop's thread.
    `clock` is the clock of deadlines and must be monotonic.
    """

    def __init__(
        self,
        executor: Executor,
        limits: BatchLimits,
        *,
        on_batch: Callable[[BatchReport], None],
        objective_s: float | None = None,
        knots: Sequence[Knot] = (),
        delivery_s: float = 0.0,
        drain_timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allowance = Allowance(math.inf if objective_s is None else objective_s)
        self.rows_out = 0
        self.lag_s = 0.0
        """How long the last batch's answer had waited for the event loop."""
        self._executor = executor
        self._scheduler = Scheduler(limits, objective_s, knots, delivery_s)
        self._on_batch = on_batch
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._promises = objective_s is not None
        self._running: dict[asyncio.Task[None], Batch] = {}
        self._rate = DrainRate()
        self._accepting = False
        self._driving = False
        self._turn: asyncio.Handle | None = None

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.get_running_loop()
        self._look_again = Alarm(self._loop, self.wake)
        self._time_up = Alarm(self._loop, self._sweep)
        self._accepting = self._driving = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._accepting = False
        try:
            if unended := {job.future for job in self._unended()}:
                await asyncio.wait(unended, timeout=self._drain_timeout_s)
        finally:
            await self._stop()

    def submit(
        self,
        inputs: Arrays,
        rows: int,
        key: Key,
        outputs: tuple[str, ...],
        deadline_s: float = math.inf,
        priority: int = DEFAULT_PRIORITY,
        client: str = "",
        trace: Trace | None = None,
        came_s: float = math.inf,
    ) -> asyncio.Future[JobResult]:
        """Accept a request, or refuse it at once; never blocks.

        `inputs` are in the signature's order, with `rows` rows each; jobs with equal `key` may share a batch, so it
        holds the shape key and `outputs`, the names of the wanted outputs. More rows than a batch may have are split
        and put together again. `deadline_s` is when the caller gives up, on the batcher's clock. `priority` is from 1,
        the highest, to `LOWEST_PRIORITY`; clients of one priority take turns. `trace` comes back in the reports of the
        batches that the request travels in. The promise counts from `came_s`, if that is before now. Cancelling the
        future takes the job out, at the latest when its turn comes.

        Raises `QueueFull` and `Overloaded` with the time in which the queue should drain, the latter where the request
        would be late for what is before it; `DeadlineExceeded` where its deadline could not be kept even alone;
        `RequestTooLarge` if it could not even enter an empty queue; and `ModelNotReady` before entering and once
        leaving has begun. The future ends with `Overloaded` or `DeadlineExceeded` where time has shown the same.
        """
        if not self._accepting:
            raise ModelNotReady("the model is stopping and takes no new requests")
        now_s = self._clock()
        if deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed before the request came to the queue")
        scheduler = self._scheduler
        curve = scheduler.curve_of(key)
        if self._promises and self.room() < -OVERSHOOT_PART * self.allowance.rows:
            raise Overloaded("overloaded: the gateway has as much to do as it can in time", self.retry_after_s())
        future: asyncio.Future[JobResult] = self._loop.create_future()
        job = Job(
            *(rows, size_bytes(inputs), key, inputs, outputs, future),
            *(deadline_s, deadline_s, deadline_s, priority, client),
            trace=trace,
        )
        try:
            scheduler.enter(job, curve, now_s, came_s)
        except (QueueFull, Overloaded) as refusal:
            refusal.retry_after_s = self.retry_after_s()
            raise
        if scheduler.standby.rows:
            self._drop(scheduler.standby.turned_away(now_s), now_s)
        first_s = min(job.due_s, job.deadline_s)
        if first_s < self._time_up.at_s:
            self._time_up.set(max(first_s, now_s + SWEEP_SPACING_S), now_s)
        self.wake()
        return future

    def full(self) -> bool:
        """Whether the gateway has as many rows in hand as it answers in time."""
        return self.allowance.full(self._scheduler.queue.rows + self.rows_out)

    def room(self) -> float:
        """The rows that may come in now; negative if more are in hand than should be."""
        return self.allowance.rows - self._scheduler.queue.rows - self.rows_out

    def has_least(self) -> bool:
        """Whether enough rows are in hand to learn from."""
        return self._scheduler.queue.rows + self.rows_out >= LEAST_ROWS

    def retry_after_s(self) -> float:
        """When a caller that is refused now should try again."""
        return self._rate.retry_after_s(self._scheduler.queue.rows)

    def wake(self) -> None:
        """Look for room in the workers once this turn of the event loop is over. May be called at any time."""
        if self._turn is None and self._driving:
            self._turn = self._loop.call_soon(self._dispatch)

    def unbatch(self) -> None:
        """From now on each request runs alone and whole: rows must not share a run, nor be put together from several.

        Requests that share a batch at this moment, or are in pieces, run once more, alone; the results of their present
        batches are not used. No request is refused because of it, and deadlines stand.
        """
        if not self._driving:
            return
        gone: asyncio.Future[JobResult] = self._loop.create_future()
        gone.cancel()
        self._scheduler.unbatch(gone)
        now_s = self._clock()
        self._time_up.set(max(self._scheduler.next_due_s(), now_s + SWEEP_SPACING_S), now_s)
        self.wake()

    def statistics(self) -> BatcherStatistics:
        scheduler = self._scheduler
        return BatcherStatistics(
            queue=scheduler.queue.statistics(),
            again_batches=len(scheduler.again) + len(scheduler.docket.waiting),
            running_batches=len(self._running),
            running_rows=self.rows_out,
            rows_per_s=self._rate.rows_per_s,
        )

    def curves(self) -> Mapping[str, Sequence[Knot]]:
        """The p95 of the run time by rows, as it is predicted now, for each key."""
        return self._scheduler.predictions()

    def _dispatch(self) -> None:
        self._turn = None
        scheduler, now_s = self._scheduler, self._clock()
        vacancy = self._executor.vacancy()
        sent = False
        if scheduler.standby.rows:
            scheduler.let_in(now_s)
            self._drop(scheduler.standby.turned_away(now_s), now_s)
        while (decision := scheduler.decide(vacancy, now_s)).reason is not None:
            taken = scheduler.next_batch(vacancy, now_s)
            self._drop(taken.dropped, now_s)
            batch = taken.batch
            if batch is not None and scheduler.docket:
                batch = scheduler.docket.admitted(batch, now_s)
            if batch is not None:
                self._send(batch, decision.reason, vacancy, now_s)
                vacancy = after_dispatch(vacancy)
                sent = True
        if sent and (scheduler.again or scheduler.queue.rows):
            self.wake()  # a batch that begins to run frees the spare place behind it, which is visible only then
        look_again_s = decision.look_again_s
        if scheduler.standby.rows:
            look_again_s = min(look_again_s, scheduler.standby.until_s)
        if look_again_s != self._look_again.at_s:
            self._look_again.cancel()
            self._look_again.set(look_again_s, now_s)

    def _send(self, batch: Batch, reason: Reason, vacancy: Vacancy, now_s: float) -> None:
        in_flight = self._scheduler.sent(batch, vacancy, now_s)
        task = self._loop.create_task(self._run(in_flight, reason, now_s))
        self._running[task] = batch
        self.rows_out += batch.rows
        task.add_done_callback(self._forget)

    async def _run(self, in_flight: BatchInFlight, reason: Reason, sent_s: float) -> None:
        batch, curve = in_flight.batch, in_flight.curve
        ran: BatchResult | None = None
        predicted_s = curve.p95_s(batch.rows)
        limit_s = max(STUCK_S, STUCK_RUNS * predicted_s) if curve.confirmed else math.inf
        try:
            result = await self._executed(in_flight, limit_s)
            answered_s = self._clock()
            batch.answer(result, sent_s, answered_s)
            self._clear(batch)
            self.lag_s = answered_s - result.began_s - result.compute_s if result.began_s else 0.0
            ran = result
            outcome = BatchOutcome.ANSWERED
        except WorkerDied as death:
            if not death.running:
                self._retry(batch, (batch,))
                return
            if len(batch.jobs) > 1:
                self._retry(batch, after_death(batch, death.death))
            else:
                self._judge(batch, death.death, sent_s)
            outcome = BatchOutcome.DIED
        except ModelFailed as failure:
            self._clear(batch)
            if again := after_failure(batch):
                self._retry(batch, again)
            else:
                batch.fail(failure)
            outcome = BatchOutcome.FAILED
        except Exception as error:
            batch.fail(error)
            outcome = BatchOutcome.ERROR
        now_s = self._clock()
        curve.observe(batch.rows, 0.0 if ran is None else ran.run_s, now_s)
        self._rate.batch_ended(batch.rows if outcome is BatchOutcome.ANSWERED else 0, sent_s, now_s)
        self.wake()
        self._on_batch(_report(batch, reason, outcome, ran, sent_s, now_s, predicted_s))

    async def _executed(self, in_flight: BatchInFlight, limit_s: float) -> BatchResult:
        batch = in_flight.batch
        try:
            return await self._executor.run([job.inputs for job in batch.jobs], batch.outputs, limit_s)
        finally:
            self._scheduler.returned(in_flight, self._clock())

    def _clear(self, batch: Batch) -> None:
        """The batch has run to its end: none of its jobs is a suspect."""
        docket = self._scheduler.docket
        if docket:
            for job in batch.jobs:
                self._scheduler.again.extend(docket.cleared(job))

    def _judge(self, batch: Batch, death: Death | None, sent_s: float) -> None:
        """A worker died while it ran a job alone: end the job, or run it again."""
        found = self._scheduler.docket.died(batch, death, sent_s, self._clock())
        if isinstance(found, WorkerKilled):
            batch.fail(found)
        else:
            self._retry(batch, found)

    def _retry(self, batch: Batch, again: Sequence[Batch]) -> None:
        """Run the batches that recovery made of this one; none where its only job waits in the docket."""
        self._scheduler.again.extend(again)
        now_s = self._clock()
        self._time_up.set(max(min([job.deadline_s for job in batch.jobs]), now_s + SWEEP_SPACING_S), now_s)
        self.wake()

    def _forget(self, task: asyncio.Task[None]) -> None:
        batch = self._running.pop(task)
        self.rows_out -= batch.rows
        if task.cancelled():
            batch.fail(_stopped())
            self.wake()

    def _sweep(self) -> None:
        now_s = self._clock()
        self._drop(self._scheduler.sweep(now_s), now_s)
        self._time_up.set(max(self._scheduler.next_due_s(), now_s + SWEEP_SPACING_S), now_s)

    def _drop(self, jobs: Iterable[Job], now_s: float) -> None:
        for job in jobs:
            waited_s = now_s - job.enqueued_s
            if job.deadline_s <= now_s:
                job.fail(DeadlineExceeded(f"the deadline could not be kept: the request had waited {waited_s:.3f} s"))
            else:
                retry_after_s = self.retry_after_s()
                text = f"overloaded: the request had waited {waited_s:.3f} s, and could not be answered in time"
                job.fail(Overloaded(text, retry_after_s))

    def _unended(self) -> Iterator[Job]:
        """Jobs that have not ended, wherever they are."""
        out = chain.from_iterable([batch.jobs for batch in self._running.values()])
        return (job for job in chain(self._scheduler.waiting(), out) if not job.future.done())

    async def _stop(self) -> None:
        self._driving = False
        for job in self._unended():
            job.fail(_stopped())
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))
        if self._turn is not None:
            self._turn.cancel()
        self._look_again.cancel()
        self._time_up.cancel()
        self._scheduler.again.clear()
        self._scheduler.docket.clear()
        self._scheduler.standby.clear()
        self._scheduler.queue.sweep(self._clock())


def _stopped() -> ModelNotReady:
    return ModelNotReady("the model stopped before it could answer")


def _report(
    batch: Batch,
    reason: Reason,
    outcome: BatchOutcome,
    ran: BatchResult | None,
    sent_s: float,
    ended_s: float,
    predicted_s: float,
) -> BatchReport:
    """The report on a batch. `ran` is what the workers returned, where the jobs were answered with it."""
    return BatchReport(
        rows=batch.rows,
        jobs=len(batch.jobs),
        reason=reason,
        outcome=outcome,
        queue_s=sent_s - batch.jobs[0].enqueued_s,
        compute_s=0.0 if ran is None else ran.compute_s,
        wall_s=ended_s - sent_s,
        run_s=0.0 if ran is None else ran.run_s,
        predicted_s=predicted_s,
        began_s=0.0 if ran is None else ran.began_s,
        ended_s=ended_s,
        traced=tuple([(job.trace, job.enqueued_s) for job in batch.jobs if job.trace is not None]),
    )
