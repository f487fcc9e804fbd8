"""What becomes of a batch that gave no answer. Pure."""

from __future__ import annotations

from batching.job import Batch, batch_of

MAX_DEATHS = 2
"""Workers that one batch may cost: a batch of several jobs is taken apart after so many, a job alone is at its end."""


def after_death(batch: Batch, *, running: bool) -> tuple[Batch, ...]:
    """The batches to run instead of one whose worker died; none if its only job has had its last chance.

    One that had not begun (`running` is false) is as good as new. One that was running goes once more as it is, since
    a worker may die for reasons of its own; after a second death each job goes alone, with one death to its name.
    """
    if not running:
        return (batch,)
    deaths = batch.deaths + 1
    if deaths < MAX_DEATHS:
        return (Batch(batch.jobs, batch.rows, deaths),)
    if len(batch.jobs) == 1:
        return ()
    return tuple([batch_of([job], MAX_DEATHS - 1) for job in batch.jobs])


def after_failure(batch: Batch) -> tuple[Batch, ...]:
    """The batches to run instead of one that the model refused: its two halves, or none if it had only one job.

    So a single guilty job among n is found in 2 log2(n) runs, and its neighbours are answered in large batches. A
    death is another matter: each costs a worker, so that there the jobs go alone at once.
    """
    jobs = list(batch.jobs)
    middle = len(jobs) // 2
    if not middle:
        return ()
    return (batch_of(jobs[:middle], batch.deaths), batch_of(jobs[middle:], batch.deaths))
