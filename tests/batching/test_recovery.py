"""The rule by which deaths are held against requests: its weights, its bounds, and what it tells."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.docket import KEEP_S, MOST_RECORDS, MOST_WAITING, Docket, content_of
from sluice.batching.job import Batch, Job, batch_of
from sluice.batching.recovery import APART, ENOUGH, WEIGHTS, Record, after_death, weight_of
from sluice.inference.errors import WorkerKilled
from sluice.inference.types import Cause, Death
from tests.batching.fakes import column, job_of

FAULTS = [Cause.CRASHED, Cause.TOO_LONG, Cause.GARBLED]
OUTSIDE = [Cause.KILLED, Cause.FROZEN]
causes = st.sampled_from([cause for cause in Cause if cause is not Cause.DISMISSED])

MOST_DEATHS = {**dict.fromkeys(FAULTS, 3), Cause.OUT_OF_MEMORY: 4, **dict.fromkeys(OUTSIDE, 8)}
"""As the docstring of the rule has them."""


def death(cause: Cause, beside: int = 0) -> Death:
    return Death(cause, "was ended", 0.1, beside)


def job(*values: float, key: str = "a") -> Job:
    made = job_of(len(values), key=key)
    made.inputs = (column(*values),)
    return made


def until_the_end(batch: Batch, deaths: list[Death]) -> list[int]:
    """How often the first job of a batch may meet these deaths, in company and alone, until it is its end."""
    docket, counts, now_s = Docket(), [0, 0], 0.0
    first = batch.jobs[0]
    for each in deaths:
        now_s += 0.1
        if len(batch.jobs) > 1:
            counts[0] += 1
            batch = next(again for again in after_death(batch, each) if first in again.jobs)
        else:
            counts[1] += 1
            if isinstance(docket.died(batch, each, now_s - 0.05, now_s), WorkerKilled):
                return counts
    pytest.fail("there is no end to it")


@pytest.mark.parametrize("cause", MOST_DEATHS)
@pytest.mark.parametrize("company", [1, 2, 64])
async def test_each_way_to_die_has_its_bound(cause: Cause, company: int) -> None:
    batch = batch_of([job(value) for value in range(company)])
    together, alone = until_the_end(batch, [death(cause)] * 20)
    assert together <= 2
    assert alone > 1, "a verdict takes more than one run alone"
    assert together + alone <= MOST_DEATHS[cause]
    assert company == 1 or together + alone == MOST_DEATHS[cause]


@given(st.lists(st.tuples(causes, st.integers(0, 2)), min_size=8, max_size=8), st.integers(1, 3))
async def test_any_mix_comes_to_an_end_within_eight_deaths_and_not_before_two_alone(
    ways: list[tuple[Cause, int]], company: int
) -> None:
    batch = batch_of([job(value) for value in range(company)])
    together, alone = until_the_end(batch, [death(*way) for way in ways])
    assert together <= 2 <= alone
    assert together + alone <= 8


async def test_only_the_weight_of_deaths_alone_condemns() -> None:
    for ways in product(MOST_DEATHS, repeat=3):
        record = Record()
        for place, way in enumerate(ways):
            record = record.after(death(way))
            assert record.deaths == place + 1
            assert record.condemned == (sum(WEIGHTS[each] for each in ways[: place + 1]) >= ENOUGH)


async def test_what_the_gateway_brought_about_counts_for_nothing() -> None:
    batch = batch_of([job(1), job(2)])
    assert after_death(batch, death(Cause.DISMISSED)) == (batch,)
    assert Record(1, 3).after(death(Cause.DISMISSED)) == Record(1, 3)


@pytest.mark.parametrize("cause", MOST_DEATHS)
async def test_a_death_among_others_speaks_of_the_machine(cause: Cause) -> None:
    assert weight_of(death(cause, beside=1)) == 1
    assert weight_of(None) == 1


async def test_a_batch_that_was_killed_stays_together_once() -> None:
    batch = batch_of([job(1), job(2, 3)])
    (again,) = after_death(batch, death(Cause.KILLED))
    assert (again.jobs, again.rows, again.deaths, again.weight) == (batch.jobs, 3, 1, 1)
    alone = after_death(again, death(Cause.FROZEN))
    assert [(one.jobs, one.rows, one.deaths, one.weight) for one in alone] == [
        ((batch.jobs[0],), 1, 2, 0),
        ((batch.jobs[1],), 2, 2, 0),
    ]


@pytest.mark.parametrize("cause", [*FAULTS, Cause.OUT_OF_MEMORY])
async def test_a_batch_that_shows_a_fault_is_taken_apart_at_once(cause: Cause) -> None:
    assert WEIGHTS[cause] >= APART
    batch = batch_of([job(1), job(2)])
    assert [(one.deaths, one.weight) for one in after_death(batch, death(cause))] == [(1, 0), (1, 0)]


async def test_the_verdict_says_how_often_and_how() -> None:
    docket, batch = Docket(), batch_of([job(1)], deaths=1)
    docket.died(batch, death(Cause.CRASHED), 0.0, 1.0)
    told = docket.died(batch, Death(Cause.CRASHED, "was ended by SIGSEGV, 0.1 s into a batch", 0.1), 1.0, 2.0)
    assert str(told) == (
        "worker processes died in 3 runs of this request, 2 of them alone; "
        "the last one was ended by SIGSEGV, 0.1 s into a batch"
    )


async def test_a_verdict_without_proof_says_so() -> None:
    docket, batch = Docket(), batch_of([job(1)])
    for _ in range(5):
        assert not isinstance(docket.died(batch, death(Cause.KILLED), 1.0, 1.0), WorkerKilled)
    assert "nothing proves that the request brings this about" in str(docket.died(batch, None, 1.0, 1.0))


async def test_copies_share_a_record_and_a_condemned_one_is_refused_for_a_while() -> None:
    docket = Docket()
    assert not docket
    docket.died(batch_of([job(1)]), death(Cause.CRASHED), 0.0, 1.0)
    assert isinstance(docket.died(batch_of([job(1)]), death(Cause.CRASHED), 0.0, 2.0), WorkerKilled)
    copy, other = job(1), job(2)
    left = docket.admitted(batch_of([copy, other]), 3.0)
    assert left is not None
    assert (left.jobs, left.rows) == ((other,), 1)
    assert str(copy.future.exception()).startswith("the same input as 1 s ago: worker processes died in 2 runs")
    assert docket.admitted(batch_of([job(1)]), 3.0) is None
    later = batch_of([job(1)])
    assert docket.admitted(later, 2.1 + KEEP_S) is later
    assert not docket


async def test_one_blow_from_outside_that_meets_copies_at_once_is_one_death() -> None:
    docket = Docket()
    for _ in range(20):
        assert not isinstance(docket.died(batch_of([job(1)]), death(Cause.KILLED), 0.0, 1.0), WorkerKilled)


async def test_copies_of_a_suspect_wait_for_it_and_go_on_together_once_it_is_cleared() -> None:
    docket = Docket()
    suspect, copy, other = job(1), job(1), job(2)
    assert docket.died(batch_of([suspect]), death(Cause.CRASHED), 0.0, 1.0) == ()
    assert [one.jobs for one in docket.waiting] == [(suspect,)]
    left = docket.admitted(batch_of([copy, other]), 1.0)
    assert left is not None
    assert left.jobs == (other,)
    tried = docket.next(2.0)
    assert tried.jobs == (suspect,)
    assert docket.admitted(tried, 2.0) is tried
    assert docket.cleared(other) == []
    assert [one.jobs for one in docket.cleared(suspect)] == [(copy,)]
    assert not docket
    assert not docket.waiting


async def test_a_request_that_met_an_accident_is_no_suspect() -> None:
    docket, batch = Docket(), batch_of([job(1)])
    assert docket.died(batch, death(Cause.KILLED), 0.0, 1.0) == (batch,)
    both = batch_of([job(1), job(2)])
    assert docket.admitted(both, 1.0) is both
    assert docket.cleared(job(1)) == []
    assert not docket


async def test_the_docket_is_bounded() -> None:
    docket = Docket()
    for value in range(2 * MOST_RECORDS):
        docket.died(batch_of([job(value)]), death(Cause.CRASHED), 0.0, 1.0)
        docket.clear()
    assert len(docket._entries) == MOST_RECORDS
    assert sum(docket._outlines.values()) == MOST_RECORDS
    copies = batch_of([job(2 * MOST_RECORDS - 1) for _ in range(2 * MOST_WAITING)])
    left = docket.admitted(copies, 1.0)
    assert left is not None
    assert (len(left.jobs), len(docket.waiting)) == (MOST_WAITING, MOST_WAITING)


async def test_only_what_the_model_cannot_tell_apart_is_one_content() -> None:
    assert content_of(job(1, 2)) == content_of(job(1, 2))
    assert content_of(job(1, 2)) != content_of(job(2, 1))
    assert content_of(job(1)) != content_of(job(1, key="b"))
    texts = [job_of(2) for _ in range(3)]
    for each, words in zip(texts, ([b"ab", b"c"], [b"a", b"bc"], [b"ab", b"c"]), strict=True):
        each.inputs = (np.array(words, dtype=object),)
    assert content_of(texts[0]) == content_of(texts[2]) != content_of(texts[1])
    large = [job_of(1) for _ in range(2)]
    for value, each in enumerate(large):
        each.inputs = (np.zeros((1, 100_000), np.float32),)
        each.inputs[0][0, 50_001] = value
    assert content_of(large[0])[0] == content_of(large[1])[0]
    assert content_of(large[0]) != content_of(large[1])
    empty = job_of(0)
    empty.inputs = (np.zeros((0, 3), np.float32), np.zeros((), np.float16))
    assert content_of(empty) == content_of(empty)
