"""The last few requests for which there was no time."""

from __future__ import annotations

import math
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Job
from sluice.batching.standby import Standby
from tests.batching.fakes import job_of, knots_of, linear
from tests.batching.virtual_time import VirtualTimeLoop

NOW_S = 1000.0
CURVE = LatencyCurve(16, knots_of(linear(0.010, 0.001), 16))

steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "cancel", "let in", "turn away"]), st.integers(0, 20), st.floats(0, 0.02)),
    max_size=60,
)


@given(steps)
def test_each_is_let_in_or_turned_away_once_the_newest_first_and_the_oldest_first(
    script: list[tuple[str, int, float]],
) -> None:
    standby, waiting, now_s = Standby(), list[Job](), NOW_S
    with closing(VirtualTimeLoop()) as loop:
        for step, number, later_s in script:
            now_s += later_s
            match step:
                case "add":
                    waiting.append(job := job_of(number % 5, loop=loop))
                    standby.add(job, CURVE, now_s)
                case "cancel" if waiting:
                    waiting[number % len(waiting)].future.cancel()
                case "let in":
                    last = standby.last()
                    while waiting and waiting[-1].future.done():
                        waiting.pop()
                    assert (last and last.job) is (waiting[-1] if waiting else None)
                    if waiting:
                        waiting.pop()
                        standby.remove_last()
                case "turn away":
                    away = standby.turned_away(now_s)
                    assert away == waiting[: len(away)]
                    del waiting[: len(away)]
                    assert standby.until_s > now_s
                    assert sum(job.places for job in waiting) <= 2 * CURVE.full_rows
            assert list(standby) == waiting


async def test_nobody_stays_for_ever() -> None:
    standby = Standby()
    standby.add(job := job_of(), CURVE, NOW_S)
    assert NOW_S < standby.until_s < math.inf
    assert standby.turned_away(standby.until_s - 1e-6) == []
    assert standby.turned_away(standby.until_s) == [job]
    assert standby.until_s == math.inf


async def test_who_has_little_time_does_not_wait_for_who_came_before() -> None:
    standby = Standby()
    standby.add(job_of(due_s=NOW_S + 10), CURVE, NOW_S)
    standby.add(hurried := job_of(due_s=NOW_S + 0.001), CURVE, NOW_S)
    assert standby.until_s <= hurried.due_s
    assert standby.turned_away(hurried.due_s) == [hurried]


async def test_who_comes_takes_the_place_of_who_came_first() -> None:
    standby = Standby()
    jobs = [job_of() for _ in range(100)]
    away: list[Job] = []
    for job in jobs:
        standby.add(job, CURVE, NOW_S)
        away += standby.turned_away(NOW_S)
    assert away + list(standby) == jobs
    assert 1 <= len(list(standby)) <= 2 * CURVE.full_rows


async def test_nobody_is_left_when_it_is_cleared() -> None:
    standby = Standby()
    for _ in range(3):
        standby.add(job_of(), CURVE, NOW_S)
    standby.clear()
    assert (list(standby), standby.last(), standby.until_s) == ([], None, math.inf)
