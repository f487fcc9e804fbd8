"""The batcher: drives one queue, sends batches to the workers, and ends every job exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import msgspec

from batching.job import Batch, Job, JobResult, Key, batch_of, size_bytes
from batching.policy import Reason, after_dispatch, decide
from batching.queue import Queue
from batching.rate import DrainRate
from batching.recovery import after_death, after_failure
from batching.report import BatcherStatistics, BatchReport, Outcome
from batching.split import split
from inference.errors import (
    DeadlineExceeded,
    ExecutionError,
    ModelFailed,
    ModelNotReady,
    QueueFull,
    WorkerDied,
    WorkerKilled,
)
from inference.types import Arrays, BatchResult, Vacancy

__all__ = ["BatchLimits", "BatchReport", "Batcher", "Executor"]

SWEEP_SPACING_S = 0.02
"""Jobs that wait past their deadline end at most so much later, and the queue is swept no more often than that."""


class Executor(Protocol):
    """What the batcher needs of the workers."""

    def vacancy(self) -> Vacancy:
        """The room that there is now. The batcher is to be told by `wake` when there may be more of it."""
        ...

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str]) -> BatchResult:
        """Stack the parts and run them. Called only into a vacancy, which it fills before it first waits.

        Raises `ModelFailed` if the engine raised, `WorkerDied` if the process ended, and bears cancellation.
        """
        ...


class BatchLimits(msgspec.Struct, frozen=True):
    """What the batcher may grow to. For a model that is not batched, `max_rows` is 1."""

    max_rows: int = 64
    max_queue_rows: int = 4096
    max_queue_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Batcher:
    """Jobs in, answers out, in batches. An async context manager that owns its queue, its timer and one task per batch.

    Every future that `submit` returns is ended exactly once: with a result, with an error, or by its owner's cancel.
    Leaving refuses new jobs, waits at most `drain_timeout_s` for the accepted ones and ends the rest with
    `ModelNotReady`; the executor must live until then.

    Bounds: the queue holds what `limits` says; beyond it there are only batches in the executor's places, and those
    that came back from them. Nothing waits while a worker is idle, but for the rest of one turn of the event loop, so
    that all requests read in the same turn travel together.

    A batch whose worker died, or that the model failed, is run again before the queue as `batching.recovery` says, so
    that only a guilty job fails: with the model's own error, or with `WorkerKilled`. Any other exception of the
    executor ends the jobs of its batch with that exception.

    `on_batch` is called once for each batch that a worker began. All methods belong to the event loop's thread.
    `clock` is the clock of deadlines and must be monotonic.
    """

    def __init__(
        self,
        executor: Executor,
        limits: BatchLimits,
        *,
        on_batch: Callable[[BatchReport], None],
        drain_timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._max_rows = limits.max_rows
        self._on_batch = on_batch
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._queue = Queue(limits.max_queue_rows, limits.max_queue_bytes)
        self._again: deque[Batch] = deque()
        self._running: dict[asyncio.Task[None], Batch] = {}
        self._ahead_rows = 0
        self._rate = DrainRate()
        self._accepting = False
        self._driving = False
        self._turn: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = math.inf

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.get_running_loop()
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
        self, inputs: Arrays, rows: int, key: Key, outputs: tuple[str, ...], deadline_s: float = math.inf
    ) -> asyncio.Future[JobResult]:
        """Accept a request, or refuse it at once; never blocks.

        `inputs` are in the signature's order, with `rows` rows each; jobs with equal `key` may share a batch, so it
        holds the shape key and `outputs`, the names of the wanted outputs. More rows than a batch may have are split
        and put together again. A request that waits past `deadline_s`, on the batcher's clock, ends with
        `DeadlineExceeded`. Cancelling the future takes the job out, at the latest when its turn comes.

        Raises `QueueFull` with the time in which the queue should drain, `RequestTooLarge` if the request could not
        even enter an empty queue, `DeadlineExceeded` if it comes too late, and `ModelNotReady` before entering and
        once leaving has begun.
        """
        if not self._accepting:
            raise ModelNotReady("the model is stopping and takes no new requests")
        now_s = self._clock()
        if deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed before the request came to the queue")
        future: asyncio.Future[JobResult] = self._loop.create_future()
        try:
            if rows <= self._max_rows:
                job = Job(rows, size_bytes(inputs), key, inputs, outputs, deadline_s, future)
                self._queue.push(job, now_s)
            else:
                self._queue.admit(rows, size_bytes(inputs))
                for piece in split(inputs, rows, self._max_rows, key, outputs, deadline_s, future):
                    self._queue.push(piece, now_s)
        except QueueFull as full:
            full.retry_after_s = self._rate.retry_after_s(self._queue.rows)
            raise
        if deadline_s < self._alarm_s:
            self._arm(deadline_s, now_s)
        self.wake()
        return future

    def wake(self) -> None:
        """Look for room in the workers once this turn of the event loop is over. May be called at any time."""
        if self._turn is None and self._driving:
            self._turn = self._loop.call_soon(self._dispatch)

    def statistics(self) -> BatcherStatistics:
        """A snapshot."""
        return BatcherStatistics(
            queue=self._queue.statistics(),
            again_batches=len(self._again),
            running_batches=len(self._running),
            running_rows=sum([batch.rows for batch in self._running.values()]),
            rows_per_s=self._rate.rows_per_s,
        )

    def _dispatch(self) -> None:
        self._turn = None
        vacancy = self._executor.vacancy()
        now_s = self._clock()
        sent = False
        while reason := decide(vacancy, len(self._again), self._queue.next_rows(), self._ahead_rows, self._max_rows):
            batch = self._next_again(now_s) if self._again else self._next_waiting(now_s)
            if batch is None:
                continue
            self._send(batch, reason, now_s)
            vacancy = after_dispatch(vacancy)
            sent = True
        if sent and (self._again or self._queue.rows):
            self.wake()  # a batch that begins to run makes a spare place behind it, which shows only then

    def _next_waiting(self, now_s: float) -> Batch | None:
        taken = self._queue.take(self._max_rows, now_s)
        _end_expired(taken.expired, now_s)
        return taken.batch

    def _next_again(self, now_s: float) -> Batch | None:
        batch = self._again.popleft()
        _end_expired(batch.jobs, now_s)
        left = [job for job in batch.jobs if not job.future.done()]
        return batch_of(left, batch.deaths) if left else None

    def _send(self, batch: Batch, reason: Reason, now_s: float) -> None:
        self._ahead_rows = batch.rows
        task = self._loop.create_task(self._run(batch, reason, now_s))
        self._running[task] = batch
        task.add_done_callback(self._forget)

    async def _run(self, batch: Batch, reason: Reason, sent_s: float) -> None:
        compute_s = 0.0
        try:
            result = await self._executor.run([job.inputs for job in batch.jobs], batch.outputs)
            batch.answer(result, self._clock())
            outcome, compute_s = Outcome.ANSWERED, result.compute_s
        except WorkerDied as death:
            self._retry(batch, after_death(batch, running=death.running), _worker_killed())
            if not death.running:
                return
            outcome = Outcome.DIED
        except ModelFailed as failure:
            self._retry(batch, after_failure(batch), failure)
            outcome = Outcome.FAILED
        except Exception as error:
            batch.fail(error)
            outcome = Outcome.ERROR
        now_s = self._clock()
        self._rate.batch_ended(batch.rows if outcome is Outcome.ANSWERED else 0, sent_s, now_s)
        self.wake()
        queue_s = sent_s - batch.jobs[0].enqueued_s
        self._on_batch(BatchReport(batch.rows, len(batch.jobs), reason, outcome, queue_s, compute_s, now_s - sent_s))

    def _retry(self, batch: Batch, again: Sequence[Batch], verdict: ExecutionError) -> None:
        """Run the batches that recovery made of this one, or end it with the verdict if it made none."""
        if not again:
            batch.fail(verdict)
            return
        self._again.extend(again)
        self._arm(min([job.deadline_s for job in batch.jobs]), self._clock())
        self.wake()

    def _forget(self, task: asyncio.Task[None]) -> None:
        batch = self._running.pop(task)
        if task.cancelled():
            batch.fail(_stopped())
            self.wake()

    def _arm(self, deadline_s: float, now_s: float) -> None:
        """See to it that the queue is swept once this deadline has passed. One timer serves all jobs."""
        alarm_s = max(deadline_s, now_s + SWEEP_SPACING_S)
        if alarm_s >= self._alarm_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_s = alarm_s
        self._alarm = self._loop.call_later(alarm_s - now_s, self._sweep)

    def _sweep(self) -> None:
        self._alarm, self._alarm_s = None, math.inf
        now_s = self._clock()
        _end_expired(self._queue.sweep(now_s), now_s)
        _end_expired(self._waiting(), now_s)
        self._arm(min([job.deadline_s for job in self._waiting()], default=math.inf), now_s)

    def _waiting(self) -> Iterator[Job]:
        """Jobs that have not ended and are not out."""
        again = chain.from_iterable([batch.jobs for batch in self._again])
        return (job for job in chain(self._queue, again) if not job.future.done())

    def _unended(self) -> Iterator[Job]:
        """Jobs that have not ended, wherever they are."""
        out = chain.from_iterable([batch.jobs for batch in self._running.values()])
        return (job for job in chain(self._waiting(), out) if not job.future.done())

    async def _stop(self) -> None:
        self._driving = False
        for job in self._unended():
            job.fail(_stopped())
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))
        for handle in (self._turn, self._alarm):
            if handle is not None:
                handle.cancel()
        self._again.clear()
        self._queue.sweep(self._clock())


def _end_expired(jobs: Iterable[Job], now_s: float) -> None:
    for job in jobs:
        if job.deadline_s <= now_s:
            waited_s = now_s - job.enqueued_s
            job.fail(DeadlineExceeded(f"the deadline passed after the request had waited {waited_s:.3f} s"))


def _stopped() -> ModelNotReady:
    return ModelNotReady("the model stopped before it could answer")


def _worker_killed() -> WorkerKilled:
    return WorkerKilled("the request ended its worker process more than once, the last time running alone")
