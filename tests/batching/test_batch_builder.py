"""Who travels together, who is dropped, and that dropping pays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from random import Random

import pytest

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Job
from sluice.batching.queue import Departure, Queue
from tests.batching.fakes import job_of, knots_of, linear
from tests.batching.virtual_time import VirtualTimeLoop

NOW_S = 1000.0
RUN_S = linear(0.010, 0.001)
CURVE = LatencyCurve(64, knots_of(RUN_S))


def queue_of(jobs: Sequence[Job], curve: LatencyCurve = CURVE) -> Queue:
    queue = Queue(10_000, 10_000)
    for job in jobs:
        job.work_s = job.places * curve.row_s
        queue.push(job, curve, NOW_S)
    return queue


def taken(jobs: Sequence[Job], start_s: float = NOW_S, curve: LatencyCurve = CURVE) -> Departure:
    return queue_of(jobs, curve).take(NOW_S, start_s)


def travellers(what: Departure) -> list[Job]:
    return list(what.batch.jobs) if what.batch is not None else []


async def test_what_was_due_before_now_is_dropped() -> None:
    late, in_time = job_of(due_s=NOW_S), job_of(due_s=NOW_S + 1)
    what = taken([late, in_time])
    assert (travellers(what), list(what.dropped)) == ([in_time], [late])


@pytest.mark.parametrize("behind_s", [0.0, 0.5])
async def test_what_would_be_late_even_alone_is_dropped(behind_s: float) -> None:
    start_s = NOW_S + behind_s
    late, in_time = job_of(due_s=start_s + 0.99 * RUN_S(1)), job_of(due_s=start_s + 2 * RUN_S(2))
    what = taken([late, in_time], start_s)
    assert (travellers(what), list(what.dropped)) == ([in_time], [late])


async def test_what_has_gone_is_neither_taken_nor_dropped() -> None:
    gone, stays = job_of(due_s=NOW_S), job_of()
    gone.future.cancel()
    what = taken([gone, stays])
    assert (travellers(what), list(what.dropped)) == ([stays], [])


async def test_a_batch_never_grows_past_what_its_most_urgent_job_allows() -> None:
    jobs = [job_of(due_s=NOW_S + RUN_S(20)), *[job_of(due_s=NOW_S + 1) for _ in range(63)]]
    what = taken(jobs)
    assert jobs[0] in travellers(what)
    assert 10 <= len(travellers(what)) <= 20
    assert not what.dropped


async def test_an_urgent_job_does_not_bound_a_batch_that_it_is_not_in() -> None:
    urgent = job_of(due_s=NOW_S + 0.5 * RUN_S(1))
    jobs = [urgent, *[job_of(due_s=NOW_S + 1) for _ in range(64)]]
    what = taken(jobs)
    assert list(what.dropped) == [urgent]
    assert len(travellers(what)) == 64


SMALL_FULL = LatencyCurve(64, knots_of(RUN_S), budget_s=0.030)


async def test_a_job_larger_than_a_full_batch_goes_alone_if_there_is_time() -> None:
    large, small = job_of(48, due_s=NOW_S + 2 * RUN_S(48)), job_of(due_s=NOW_S + 1)
    what = taken([large, small], curve=SMALL_FULL)
    assert (travellers(what), list(what.dropped)) == ([large], [])


async def test_a_job_larger_than_a_full_batch_is_not_started_if_it_is_doomed() -> None:
    assert SMALL_FULL.full_p95_s < 0.9 * RUN_S(48)
    large, small = job_of(48, due_s=NOW_S + 0.9 * RUN_S(48)), job_of(due_s=NOW_S + 1)
    what = taken([large, small], curve=SMALL_FULL)
    assert (travellers(what), list(what.dropped)) == ([small], [large])


async def test_not_all_are_dropped_where_some_could_be_answered() -> None:
    jobs = [job_of(due_s=NOW_S + RUN_S(32)) for _ in range(70)]
    what = taken(jobs)
    assert 25 <= len(travellers(what)) <= 32


async def test_few_urgent_jobs_are_dropped_where_to_run_for_them_would_make_a_crowd_late() -> None:
    urgent = [job_of(due_s=NOW_S + RUN_S(3)) for _ in range(2)]
    crowd = [job_of(due_s=NOW_S + 1.2 * RUN_S(64)) for _ in range(64)]
    what = taken([*urgent, *crowd])
    assert list(what.dropped) == urgent
    assert len(travellers(what)) >= 60


async def test_few_urgent_jobs_go_first_where_the_others_can_wait() -> None:
    urgent = [job_of(due_s=NOW_S + 2 * RUN_S(3)) for _ in range(2)]
    patient = [job_of(due_s=NOW_S + 10) for _ in range(30)]
    what = taken([*urgent, *patient])
    assert not what.dropped
    assert set(urgent) <= set(travellers(what))


def answered_in_time(jobs: Sequence[Job]) -> int:
    """One worker without noise works off the queue."""
    queue, now_s, rows = queue_of(jobs), NOW_S, 0
    while (batch := queue.take(now_s, now_s).batch) is not None:
        now_s += RUN_S(batch.rows)
        rows += sum(job.places for job in batch.jobs if job.due_s >= now_s)
    return rows


def answered_without_early_drop(jobs: Sequence[Job]) -> int:
    """The same by the earliest deadline: as many as fit, and only those are dropped that are late alone."""
    waiting, now_s, rows = sorted(jobs, key=lambda job: job.due_s), NOW_S, 0
    while waiting:
        if now_s + RUN_S(waiting[0].places) > waiting[0].due_s:
            waiting.pop(0)
            continue
        fit = max(size for size in range(1, 65) if now_s + RUN_S(size) <= waiting[0].due_s or size == 1)
        batch, waiting = waiting[:fit], waiting[fit:]
        now_s += RUN_S(len(batch))
        rows += sum(job.places for job in batch if job.due_s >= now_s)
    return rows


def test_early_drops_answer_more_than_none_would() -> None:
    ours = theirs = 0
    with closing(VirtualTimeLoop()) as loop:
        for seed in range(100):
            random = Random(seed)
            load = random.uniform(0.5, 4.0)
            dues_s = [NOW_S + random.uniform(0.0, 0.3) for _ in range(int(load * 0.3 * 64 / RUN_S(64)))]
            ours += answered_in_time([job_of(due_s=due_s, loop=loop) for due_s in dues_s])
            theirs += answered_without_early_drop([job_of(due_s=due_s, loop=loop) for due_s in dues_s])
    assert ours >= theirs
