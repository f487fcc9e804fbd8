"""Jobs and batches: one request that waits, and the requests that run together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable
from itertools import accumulate
from typing import TypeAlias

import msgspec

from sluice.inference.errors import ModelFailed
from sluice.inference.types import DEFAULT_PRIORITY, Arrays, BatchResult, Trace

Key: TypeAlias = Hashable
"""Equal for jobs that may share a batch: they have the same shape key and want the same outputs in the same order."""


class JobResult(msgspec.Struct, frozen=True):
    """The answer to one job.

    `outputs` are in the wanted order, and may be views of arrays that the whole batch shares: read them, or copy
    them before keeping them. `queue_s` is the wait from acceptance until its batch was dispatched, and `batch_s` is all
    the rest until its answer: stacking, the way to the worker, the engine's run and the way back. `compute_s`,
    measured in the worker, is what the engine took for the batch.
    `batch_rows` counts the rows of the batch that the job travelled in. `late` is true of an answer that came after the
    job's promise.
    """

    outputs: Arrays
    queue_s: float
    batch_s: float
    compute_s: float
    batch_rows: int
    late: bool = False


class Job(msgspec.Struct, eq=False):
    """One request on its way, or one piece of a request that was too large for a batch.

    `inputs` are in the signature's order and have `rows` rows each; `size_bytes` is the memory that they hold. The job
    is over once `future` is done. It belongs to the client, who may cancel it at any moment.

    All times are monotonic. After `deadline_s` its caller does not want the answer any more. It should have been
    answered by `promised_s`, at the latest `deadline_s`. At `due_s` it is dropped: the promise, or later where that
    could never be kept; but once it is `kept`, it is late rather than dropped, up to its caller's own deadline.
    `work_s` is its part in the run time of a full batch. The queue writes `enqueued_s`, and
    `urgent_s`, which is what it is ordered by. `trace` is that of its caller, where the call is traced.
    """

    rows: int
    size_bytes: int
    key: Key
    inputs: Arrays
    outputs: tuple[str, ...]
    future: asyncio.Future[JobResult]
    deadline_s: float = math.inf
    promised_s: float = math.inf
    due_s: float = math.inf
    priority: int = DEFAULT_PRIORITY
    client: str = ""
    work_s: float = 0.0
    enqueued_s: float = 0.0
    urgent_s: float = math.inf
    trace: Trace | None = None
    kept: bool = False

    @property
    def ends_s(self) -> float:
        """When it is dropped, if it still waits then."""
        return self.deadline_s if self.kept else self.due_s

    @property
    def places(self) -> int:
        """What the job counts for in bounds: its rows, or one if it has none, so that empty jobs are bounded too."""
        return self.rows or 1

    def begin(self) -> None:
        """It leaves with a batch."""

    def answer(self, result: JobResult) -> None:
        """End the job with its result. It must not be over."""
        self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """End the job with an error, unless it is over already."""
        if not self.future.done():
            self.future.set_exception(error)


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Jobs of one key that travel together: at least one, and none is added once the batch is born.

    `deaths` is how many workers have died while they ran these jobs together, and `weight` what that counts for, by
    `batching.recovery`. Of a job that runs alone, these are deaths in company, which are not held against it.
    """

    jobs: tuple[Job, ...]
    rows: int
    deaths: int = 0
    weight: int = 0

    @property
    def key(self) -> Key:
        """The key of every job."""
        return self.jobs[0].key

    @property
    def outputs(self) -> tuple[str, ...]:
        """The wanted outputs, which are the same for every job."""
        return self.jobs[0].outputs

    def answer(self, result: BatchResult, sent_s: float, now_s: float) -> None:
        """End every job that is not over with its own rows of the outputs. The batch was dispatched at `sent_s`.

        A batch of one job gets the outputs whole, whatever their shape: so a model without a batch axis, or one that
        does not give a row for a row, answers rightly when it runs alone. Raises `ModelFailed` if several jobs would
        have to share an output that has not their number of rows.
        """
        if len(self.jobs) > 1:
            self._share_out(result, sent_s, now_s)
        elif not (job := self.jobs[0]).future.done():
            times = (sent_s - job.enqueued_s, now_s - sent_s, result.compute_s)
            job.answer(JobResult(result.outputs, *times, self.rows, now_s > job.promised_s))

    def fail(self, error: Exception) -> None:
        """End every job that is not over with this error."""
        for job in self.jobs:
            job.fail(error)

    def _share_out(self, result: BatchResult, sent_s: float, now_s: float) -> None:
        outputs, compute_s, rows = result.outputs, result.compute_s, self.rows
        for name, array in zip(self.outputs, outputs, strict=True):
            if array.shape[:1] != (rows,):
                raise ModelFailed(
                    f"output {name!r} has shape {array.shape} for a batch of {rows} rows; axis 0 must match"
                )
        ends = list(accumulate([job.rows for job in self.jobs]))
        spans = [slice(end - job.rows, end) for job, end in zip(self.jobs, ends, strict=True)]
        shares = zip(*[[array[span] for span in spans] for array in outputs], strict=True)
        batch_s = now_s - sent_s
        for job, own in zip(self.jobs, shares, strict=True):
            if not job.future.done():
                queue_s = sent_s - job.enqueued_s
                job.answer(JobResult(own, queue_s, batch_s, compute_s, rows, now_s > job.promised_s))


def batch_of(jobs: list[Job], deaths: int = 0, weight: int = 0) -> Batch:
    """The batch that these jobs make, in this order."""
    return Batch(tuple(jobs), sum([job.rows for job in jobs]), deaths, weight)


def size_bytes(arrays: Arrays) -> int:
    """The memory that arrays hold, with the elements of BYTES tensors, which `nbytes` leaves out."""
    size = 0
    for array in arrays:
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(map(len, array.flat))
    return size
