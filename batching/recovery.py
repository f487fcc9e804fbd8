"""What follows from a batch that gave no answer: which jobs run again, in which batches, and which one ends. Pure.

A verdict needs evidence. A worker that dies while it runs a batch may have died of it, or of something else, and how it
ended says which is likelier (`WEIGHTS`). So each death counts by its weight, and is counted twice over: first for the
batch, then for a request that runs alone.

- A batch of several jobs goes once more as it is while the weight of its deaths is below `APART`; then each job goes
  alone. None of these deaths is held against a single job.
- A job alone is condemned once the deaths that it alone has caused weigh `ENOUGH`. Until then it is run again, as long
  as its caller's deadline allows.
- What runs to its end is cleared, with an answer or with the model's own error, and nothing of it is counted again.
- What the gateway brought about, or what had not begun to run, counts for nothing.

The bounds that follow, for one request: two crashes alone, three deaths for want of memory alone, or six kills from
outside alone, and before that at most one, one or two in company. So a poison costs at most 3, 4 or 8 workers, by the
way in which it kills, and an innocent request is condemned only by that many accidents in a row that meet it alone.
Copies of one input share a record (`batching.docket`), so that they have no more between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from sluice.batching.job import Batch, batch_of
from sluice.inference.types import Cause, Death

ENOUGH = 6
"""A job alone is condemned by deaths of this weight."""

APART = 2
"""A batch of several jobs is taken apart after deaths of this weight."""

WEIGHTS: Mapping[Cause, int] = MappingProxyType(
    {
        Cause.CRASHED: 3,
        Cause.TOO_LONG: 3,
        Cause.GARBLED: 3,
        Cause.OUT_OF_MEMORY: 2,  # the kernel takes the largest worker, which need not be the one that grew
        Cause.KILLED: 1,
        Cause.FROZEN: 1,
        Cause.DISMISSED: 0,
    }
)
"""What a death counts for. Nothing that a run can bring about counts for nothing: every poison comes to an end."""


class Record(msgspec.Struct, frozen=True):
    """Deaths while one job ran alone: how many, and what they weigh together."""

    deaths: int = 0
    weight: int = 0

    @property
    def condemned(self) -> bool:
        """Whether that is enough to run it no more."""
        return self.weight >= ENOUGH

    def after(self, death: Death | None) -> Record:
        """With one death more."""
        weight = weight_of(death)
        return Record(self.deaths + 1, self.weight + weight) if weight else self


def weight_of(death: Death | None) -> int:
    """What a death counts for; the least where nothing is known, or where others died so in the same second."""
    if death is None:
        return 1
    weight = WEIGHTS[death.cause]
    return min(weight, 1) if death.beside else weight


def after_death(batch: Batch, death: Death | None) -> tuple[Batch, ...]:
    """The batches to run instead of one whose worker died while it ran the batch, which has more than one job."""
    weight = weight_of(death)
    if not weight:
        return (batch,)
    deaths, weight = batch.deaths + 1, batch.weight + weight
    if weight < APART:
        return (Batch(batch.jobs, batch.rows, deaths, weight),)
    return tuple([batch_of([job], deaths) for job in batch.jobs])


def after_failure(batch: Batch) -> tuple[Batch, ...]:
    """The batches to run instead of one that the model refused: its two halves, or none if it had only one job.

    So a single guilty job among n is found in 2 log2(n) runs, and its neighbours are answered in large batches. A
    death is another matter: each costs a worker, so that there the jobs go alone at once. The batch ran to its end, so
    earlier deaths are not held against it any more.
    """
    jobs = list(batch.jobs)
    middle = len(jobs) // 2
    if not middle:
        return ()
    return (batch_of(jobs[:middle], batch.deaths), batch_of(jobs[middle:], batch.deaths))


def verdict(company: int, record: Record, death: Death | None) -> str:
    """What a condemned request is told: how often, how it ended the last time, and what that shows."""
    runs = company + record.deaths
    how = "ended in an unknown way" if death is None else death.how
    alone = "each time alone" if not company else f"{record.deaths} of them alone"
    text = f"worker processes died in {runs} runs of this request, {alone}; the last one {how}"
    if death is None or weight_of(death) < WEIGHTS[Cause.OUT_OF_MEMORY]:
        text += "; nothing proves that the request brings this about, but it is not run again"
    return text
