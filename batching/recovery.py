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
    return taken_apart(batch, deaths=MAX_DEATHS - 1)


def after_failure(batch: Batch) -> tuple[Batch, ...]:
    """The batches to run instead of one that the model refused; none if it had only one job."""
    return taken_apart(batch, deaths=batch.deaths)


def taken_apart(batch: Batch, deaths: int) -> tuple[Batch, ...]:
    """Each job alone, or nothing if there is only one."""
    if len(batch.jobs) == 1:
        return ()
    return tuple([batch_of([job], deaths) for job in batch.jobs])
