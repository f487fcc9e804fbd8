"""Requests with more rows than a batch may have: cut into pieces, and put together again. Pure."""

from __future__ import annotations

import numpy as np

from sluice.batching.job import Job, JobResult, size_bytes
from sluice.inference.errors import ModelFailed


class JobPiece(Job, kw_only=True):
    """A job that is one piece of a larger request. All pieces share the request's future.

    The first piece to fail ends the request, and with it every other piece: the future is done, so the queue drops
    them. The last piece to be answered ends it with the whole result.
    """

    whole: Whole
    place: int

    def begin(self) -> None:
        """It leaves with a batch, so the other pieces are kept: a request that has begun is not dropped."""
        self.whole.begin()

    def answer(self, result: JobResult) -> None:
        """Hand in this piece's part. The request must not be over."""
        self.whole.put(self, result)


class Whole:
    """The parts of one request, gathered until none is missing."""

    __slots__ = ("_max_rows", "_missing", "_parts", "pieces", "request")

    def __init__(self, request: Job, pieces: int, max_rows: int) -> None:
        self.request: Job | None = request
        """The request as it came, for a caller that runs it whole after all; `None` once it has been taken."""
        self.pieces: list[JobPiece] = []
        """The pieces that wait, until the first of them begins."""
        self._max_rows = max_rows
        self._parts: list[JobResult | None] = [None] * pieces
        self._missing = pieces

    def begin(self) -> None:
        """The first piece leaves, and the request goes on to its end."""
        pieces, self.pieces = self.pieces, []
        for piece in pieces:
            piece.kept = True

    def put(self, piece: JobPiece, result: JobResult) -> None:
        """Take in one part, and end the request if it was the last."""
        if any([array.shape[:1] != (piece.rows,) for array in result.outputs]):
            piece.fail(self._cannot_split("the model does not give one output row per input row"))
            return
        self._parts[piece.place] = result
        self._missing -= 1
        if self._missing:
            return
        try:
            joined = join([part for part in self._parts if part is not None])
        except ValueError:
            piece.fail(self._cannot_split("the outputs of its pieces differ in shape"))
        else:
            piece.future.set_result(joined)

    def _cannot_split(self, because: str) -> ModelFailed:
        return ModelFailed(f"the request cannot be answered in pieces: {because}; send at most {self._max_rows} rows")


def split(job: Job, max_rows: int) -> list[JobPiece]:
    """Pieces of at most `max_rows` rows, in order, whose inputs are views of the job's."""
    starts = range(0, job.rows, max_rows)
    whole = Whole(job, len(starts), max_rows)
    pieces = []
    for place, start in enumerate(starts):
        part = tuple([array[start : start + max_rows] for array in job.inputs])
        part_rows = min(max_rows, job.rows - start)
        pieces.append(
            JobPiece(
                part_rows,
                size_bytes(part),
                job.key,
                part,
                job.outputs,
                job.future,
                job.deadline_s,
                job.promised_s,
                job.due_s,
                job.priority,
                job.client,
                job.work_s * part_rows / job.rows,
                trace=job.trace,
                kept=job.kept,
                whole=whole,
                place=place,
            )
        )
    whole.pieces += pieces
    return pieces


def join(parts: list[JobResult]) -> JobResult:
    """One result from the parts in order; raises `ValueError` if their outputs do not fit together.

    `queue_s` and `batch_s` are those of the slowest part, `compute_s` the sum: what the request cost the engine. Parts
    may have run side by side, so they can add up to more than the time that passed. `batch_rows` is that of the largest
    batch.
    """
    return JobResult(
        outputs=tuple([np.concatenate(arrays) for arrays in zip(*[part.outputs for part in parts], strict=True)]),
        queue_s=max([part.queue_s for part in parts]),
        batch_s=max([part.batch_s for part in parts]),
        compute_s=sum([part.compute_s for part in parts]),
        batch_rows=max([part.batch_rows for part in parts]),
        late=any([part.late for part in parts]),
    )
