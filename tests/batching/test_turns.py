"""Whose turn it is: deadlines, priorities that age, clients that share, and what is ahead of a newcomer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Batch, Job
from sluice.batching.queue import AGEING_S, PATIENCE_S, Queue
from sluice.batching.waiting_lines import QUANTUM_ROWS
from tests.batching.fakes import job_of, knots_of, linear
from tests.batching.virtual_time import VirtualTimeLoop

NOW_S = 1000.0


def taken(queue: Queue, now_s: float = NOW_S) -> Batch:
    batch = queue.take(now_s, now_s).batch
    assert batch is not None
    return batch


def full_curve(rows: int, max_rows: int = 64) -> LatencyCurve:
    """A curve whose full batch has so many rows."""
    curve = LatencyCurve(max_rows)
    curve.full_rows = rows
    return curve


async def test_the_most_urgent_goes_first_whatever_its_key_and_its_place() -> None:
    queue, curve = Queue(100, 100), full_curve(2)
    dues_s: dict[str, list[float]] = {"a": [9, 3], "b": [1, 8], "c": [2, 2.5]}
    for key, own in dues_s.items():
        for due_s in own:
            queue.push(job_of(key=key, due_s=NOW_S + due_s), curve, NOW_S)
    order = [[job.due_s - NOW_S for job in taken(queue).jobs] for _ in dues_s]
    assert order == [[1, 8], [2, 2.5], [3, 9]]


async def test_who_has_no_deadline_is_not_overtaken_for_ever() -> None:
    queue, curve = Queue(100, 100), full_curve(1)
    patient = job_of(due_s=math.inf)
    queue.push(patient, curve, NOW_S)
    later_s = NOW_S + PATIENCE_S - 1
    queue.push(job_of(due_s=later_s + 0.5), curve, later_s)
    queue.push(job_of(due_s=later_s + 30), curve, later_s)
    batches = [taken(queue, later_s) for _ in range(3)]
    assert batches[1].jobs == (patient,)


async def test_lower_priorities_fill_what_higher_ones_leave() -> None:
    queue, curve = Queue(100, 100), full_curve(4)
    for priority in (9, 5, 9, 1, 5):
        queue.push(job_of(priority=priority), curve, NOW_S)
    assert [job.priority for job in taken(queue).jobs] == [1, 5, 5, 9]


async def test_another_key_of_a_higher_priority_goes_first_though_it_came_last() -> None:
    queue, curve = Queue(100, 100), full_curve(4)
    queue.push(job_of(key="a", priority=6, due_s=NOW_S + 0.001), curve, NOW_S)
    queue.push(job_of(key="b", priority=5), curve, NOW_S)
    assert taken(queue).key == "b"


async def test_a_priority_that_has_waited_long_goes_first_once() -> None:
    queue, curve = Queue(1000, 100), full_curve(2)
    for priority in (9, 9, 9, 9, 1, 1, 1, 1):
        queue.push(job_of(priority=priority), curve, NOW_S)
    just_before_s, then_s = NOW_S + 0.99 * AGEING_S, NOW_S + 1.5 * AGEING_S
    assert [job.priority for job in taken(queue, just_before_s).jobs] == [1, 1]
    assert [[job.priority for job in taken(queue, then_s).jobs] for _ in range(3)] == [[9, 9], [1, 1], [9, 9]]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.sampled_from("abc"), st.integers(2, 9)), min_size=1, max_size=8),
    st.integers(1, 8),
    st.floats(0.005, 0.2),
)
def test_no_priority_starves_under_a_flood_of_a_higher_one(
    low: set[tuple[str, int]], full: int, spacing_s: float
) -> None:
    queue, curve, now_s = Queue(10_000, 10_000), full_curve(full), NOW_S
    with closing(VirtualTimeLoop()) as loop:
        last_s = dict.fromkeys(low, now_s)
        for _ in range(int(4 * AGEING_S / spacing_s)):
            for _ in range(full):
                queue.push(job_of(key="a", priority=1, loop=loop), curve, now_s)
            for key, priority in low:
                queue.push(job_of(key=key, priority=priority, loop=loop), curve, now_s)
            for job in taken(queue, now_s).jobs:
                last_s[str(job.key), job.priority] = now_s
            now_s += spacing_s
            bound_s = AGEING_S + 2 * (len(low) + 2) * spacing_s
            assert all(now_s - served_s <= bound_s for served_s in last_s.values())


def served(batches: Sequence[Batch]) -> Counter[str]:
    rows: Counter[str] = Counter()
    for batch in batches:
        for job in batch.jobs:
            rows[job.client] += job.places
    return rows


def backlog(
    queue: Queue, curve: LatencyCurve, clients: Sequence[str], sizes: Sequence[int], loop: VirtualTimeLoop
) -> None:
    """More jobs of each client than are going to be taken, each with its own sizes, in turns."""
    random = Random(5)
    for client in clients:
        for _ in range(1500):
            queue.push(job_of(random.choice(sizes), client=client, loop=loop), curve, NOW_S)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2 * QUANTUM_ROWS), min_size=1, max_size=4),
    st.integers(2, 4),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_clients_that_all_have_more_than_can_be_served_get_equal_shares_in_any_window(
    sizes: list[int], clients: int, fulls: list[int]
) -> None:
    """Any two are at most the quantum and two of the largest jobs apart: theorem 3 of the paper that `line` names."""
    names = [str(number) for number in range(clients)]
    curve = full_curve(fulls[0])
    with closing(VirtualTimeLoop()) as loop:
        queue = Queue(10**9, 10**9)
        backlog(queue, curve, names, sizes, loop)
        bound = QUANTUM_ROWS + 2 * max(1, *sizes)
        batches: list[Batch] = []
        totals = [Counter[str]()]
        for number in range(40):
            curve.full_rows = fulls[number % len(fulls)]
            batches.append(taken(queue))
            totals.append(totals[-1] + served(batches[-1:]))
        for begin in range(0, len(totals), 3):
            for end in totals[begin:]:
                rows = [end[name] - totals[begin][name] for name in names]
                assert max(rows) - min(rows) <= bound


@pytest.mark.parametrize("full_before", [1, 4, 20, 64])
@pytest.mark.parametrize("full_after", [4, 64])
async def test_who_comes_later_is_not_starved_by_what_the_others_have_saved(full_before: int, full_after: int) -> None:
    queue, curve = Queue(10**6, 10**6), full_curve(full_before)
    for client in ("a", "b") * 4000:
        queue.push(job_of(client=client), curve, NOW_S)
    for _ in range(50):
        taken(queue)
    for _ in range(1000):
        queue.push(job_of(client="late"), curve, NOW_S)
    curve.full_rows = full_after
    batches = [taken(queue) for _ in range(-(-20 * QUANTUM_ROWS // full_after))]
    rows = served(batches)
    assert max(rows.values()) - min(rows[client] for client in ("a", "b", "late")) <= QUANTUM_ROWS + 2


async def test_a_polite_client_hardly_notices_a_flood() -> None:
    queue, curve = Queue(10**6, 10**6), full_curve(16)
    for _ in range(8000):
        queue.push(job_of(client="flood"), curve, NOW_S)
    for _ in range(200):
        polite = [job_of(client="polite") for _ in range(QUANTUM_ROWS // 2)]
        for job in polite:
            queue.push(job, curve, NOW_S)
        assert set(polite) <= {*taken(queue).jobs, *taken(queue).jobs}


async def test_clients_share_within_a_priority_only() -> None:
    queue, curve = Queue(100, 100), full_curve(4)
    for client, priority in ("high", 1), ("low", 5):
        for _ in range(4):
            queue.push(job_of(client=client, priority=priority), curve, NOW_S)
    assert served([taken(queue)]) == {"high": 4}


async def test_a_job_larger_than_its_clients_turn_waits_for_more_turns_and_then_goes() -> None:
    queue, curve = Queue(1000, 100), full_curve(64)
    large = job_of(3 * QUANTUM_ROWS, client="large")
    queue.push(large, curve, NOW_S)
    for _ in range(100):
        queue.push(job_of(client="small"), curve, NOW_S)
    jobs = taken(queue).jobs
    assert large in jobs
    assert jobs.index(large) == pytest.approx(2 * QUANTUM_ROWS, abs=QUANTUM_ROWS)


jobs_of_one_client = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0.1, 1.0, 2.0, 50.0, 70.0, math.inf]), st.sampled_from([1, 5, 9])),
    max_size=30,
)
newcomers = st.tuples(st.integers(1, 9), st.sampled_from([0.5, 1.0, 55.0, math.inf]), st.sampled_from([1, 5, 9]))


def rows_before(queue: Queue, newcomer: Job) -> int:
    """What is really served before it."""
    rows = 0
    while True:
        for job in taken(queue).jobs:
            if job is newcomer:
                return rows
            rows += job.places


@settings(deadline=None)
@given(jobs_of_one_client, newcomers, st.integers(1, 20))
def test_what_is_ahead_of_a_newcomer_is_what_is_served_before_it(
    waiting: list[tuple[int, float, int]], newcomer: tuple[int, float, int], full: int
) -> None:
    queue, curve = Queue(10_000, 10_000), full_curve(full)
    with closing(VirtualTimeLoop()) as loop:
        for rows, within_s, priority in waiting:
            queue.push(job_of(rows, due_s=NOW_S + within_s, priority=priority, loop=loop), curve, NOW_S)
        rows, within_s, priority = newcomer
        job = job_of(rows, due_s=NOW_S + within_s, priority=priority, loop=loop)
        ahead = queue.ahead_of(job)
        assert ahead.work_s == 0.0
        queue.push(job, curve, NOW_S)
        assert rows_before(queue, job) == ahead.rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), max_size=120),
    st.sampled_from("abcd"),
    st.integers(1, 12),
    st.integers(1, 30),
)
def test_where_clients_share_no_more_is_served_before_a_newcomer_than_is_said(
    waiting: list[tuple[str, int]], client: str, rows: int, full: int
) -> None:
    queue, curve = Queue(10_000, 10_000), full_curve(full)
    with closing(VirtualTimeLoop()) as loop:
        for other, places in waiting:
            queue.push(job_of(places, client=other, loop=loop), curve, NOW_S)
        job = job_of(rows, client=client, loop=loop)
        ahead = queue.ahead_of(job)
        assert ahead.rows <= sum(places for _, places in waiting)
        queue.push(job, curve, NOW_S)
        others = len({other for other, _ in waiting} - {client})
        assert rows_before(queue, job) <= ahead.rows + others * (QUANTUM_ROWS + 2 * 12)


async def test_the_work_of_other_keys_counts_up_to_the_same_priority() -> None:
    queue, curve = Queue(100, 100), LatencyCurve(4, knots_of(linear(0.01, 0.001), 4))
    for key, priority, work_s in ("a", 5, 1.0), ("b", 1, 2.0), ("b", 5, 4.0), ("b", 9, 8.0), ("c", 5, 16.0):
        queue.push(job_of(key=key, priority=priority, work_s=work_s), curve, NOW_S)
    assert queue.work_s == 31.0
    ahead = queue.ahead_of(job_of(key="a", priority=5))
    assert (ahead.rows, ahead.work_s) == (1, 22.0)
    ahead = queue.ahead_of(job_of(key="new", priority=1))
    assert (ahead.rows, ahead.work_s) == (0, 2.0)
    while queue.take(NOW_S, NOW_S).batch is not None:
        pass
    assert queue.work_s == 0.0
