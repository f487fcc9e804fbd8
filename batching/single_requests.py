"""Makes batches of single, whole requests out of jobs that shared a batch or were cut into pieces. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy

from sluice.batching.job import Batch, Job, JobResult, batch_of
from sluice.batching.split import JobPiece


def single_requests(jobs: Sequence[Job], gone: asyncio.Future[JobResult], deaths: int = 0) -> list[Batch]:
    """A batch for each request of these jobs, which have waited or travelled together. None for a whole job alone.

    A job that is taken out of a batch is left with `gone`, a future that is over, so that its former batch answers
    nobody. A request that was cut is given once, for the first of its pieces, and whole.
    """
    batches = []
    for job in jobs:
        if job.future.done():
            continue
        if isinstance(job, JobPiece):
            request, job.whole.request = job.whole.request, None
        elif len(jobs) > 1:
            request = copy(job)
        else:
            continue
        if request is not None:
            request.enqueued_s, request.urgent_s = job.enqueued_s, job.urgent_s
            batches.append(batch_of([request], deaths))
        job.future = gone
    return batches
