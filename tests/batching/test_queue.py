"""The queue against a model of it that is too simple to be wrong."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Batch, Job
from sluice.batching.queue import AGEING_S, LOOKS_PER_REFUSAL, PATIENCE_S, Queue
from sluice.inference.errors import QueueFull, RequestTooLarge
from tests.batching.fakes import job_of, knots_of, linear
from tests.batching.virtual_time import VirtualTimeLoop

MAX_ROWS, MAX_BYTES = 40, 100
CURVES = {
    "a": LatencyCurve(16, knots_of(linear(0.010, 0.001), 16)),
    "b": LatencyCurve(16, knots_of(linear(0.002, 0.002), 16), budget_s=0.02),
    "c": LatencyCurve(6),
}
ANY = LatencyCurve(64)


class QueueMachine(RuleBasedStateMachine):
    """The model: one list of waiting jobs in order of arrival, and when each priority of a key began to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue = Queue(MAX_ROWS, MAX_BYTES)
        self.waiting: list[Job] = []
        self.since_s: dict[tuple[object, int], float] = {}
        self.now_s = 1000.0

    def teardown(self) -> None:
        self.loop.close()

    @rule(
        rows=st.integers(0, 12),
        size_bytes=st.integers(0, 30),
        key=st.sampled_from("abc"),
        within_s=st.sampled_from([0.012, 0.02, 0.05, 0.5, 100.0, math.inf]),
        priority=st.sampled_from([1, 5, 9]),
        client=st.sampled_from("xyz"),
        later_s=st.sampled_from([0, 0, 0, 0.01]),
    )
    def push(
        self, rows: int, size_bytes: int, key: str, within_s: float, priority: int, client: str, later_s: float
    ) -> None:
        self.now_s += later_s
        curve, due_s = CURVES[key], self.now_s + within_s
        job = job_of(rows, size_bytes, key, due_s=due_s, priority=priority, client=client, loop=self.loop)
        job.work_s = (rows or 1) * curve.row_s
        try:
            self.queue.push(job, curve, self.now_s)
        except QueueFull:
            kept = self.still_here(self.waiting)
            assert sum(other.places for other in kept) + job.places > MAX_ROWS or (
                sum(other.size_bytes for other in kept) + size_bytes > MAX_BYTES
            )
        else:
            assert job.enqueued_s == self.now_s
            assert job.urgent_s == min(due_s, self.now_s + PATIENCE_S)
            kept = self.still_here(self.waiting)
            self.since_s = {level: since for level, since in self.since_s.items() if level in levels(kept)}
            self.since_s.setdefault((key, priority), self.now_s)
            self.waiting.append(job)
        assert all(other.future.done() for other in self.waiting if other not in {*kept, job})
        self.forget_what_left()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            data.draw(st.sampled_from(self.waiting)).future.cancel()

    @rule(later_s=st.sampled_from([0, 0.01, 0.1, AGEING_S]), busy_s=st.sampled_from([0, 0, 0.01, 0.04]))
    def take(self, later_s: float, busy_s: float) -> None:
        self.now_s += later_s
        start_s = self.now_s + busy_s
        before = list(self.waiting)
        first_line = self.queue.next_line(self.now_s)
        assert (first_line is None) == (not before)
        taken = self.queue.take(self.now_s, start_s)
        dropped, batch = list(taken.dropped), taken.batch
        for job in dropped:
            assert not job.future.done()
            self.check_that_it_was_too_late(job, before, start_s)
        left = self.still_here(before)
        hopeful = [job for job in before if not job.future.done() and job not in dropped]
        assert (batch is None) == (not hopeful)
        if batch is not None:
            assert all(job in hopeful for job in batch.jobs)
            assert batch.rows == sum(job.rows for job in batch.jobs)
            self.check_size(batch, left, start_s)
            self.check_turn(batch, before, left)
            check_order(batch, hopeful)
        self.check_that_nothing_is_lost(dropped, list(batch.jobs) if batch else [])

    @rule(later_s=st.sampled_from([0, 0.01, 1]))
    def sweep(self, later_s: float) -> None:
        self.now_s += later_s
        late = self.queue.sweep(self.now_s)
        expected = [job for job in self.waiting if not job.future.done() and job.due_s <= self.now_s]
        assert sorted(map(id, late)) == sorted(map(id, expected))
        self.check_that_nothing_is_lost(late, [])
        assert not any(job.future.done() for job in self.queue)

    def check_that_it_was_too_late(self, job: Job, before: Sequence[Job], start_s: float) -> None:
        """Past its time, or too late even alone, or too close to it for all that wait."""
        fit = CURVES[str(job.key)].rows_within(job.due_s - start_s)
        crowd = places_of([other for other in before if other.key == job.key])
        assert job.due_s <= self.now_s or fit < job.places or fit < crowd

    def check_size(self, batch: Batch, left: Sequence[Job], start_s: float) -> None:
        """No more than is full, nor than any job in it allows; nothing stays that would safely have fitted."""
        places, curve = places_of(batch.jobs), CURVES[str(batch.key)]
        if len(batch.jobs) > 1:
            assert places <= min(curve.full_rows, *[curve.rows_within(job.due_s - start_s) for job in batch.jobs])
        hopeful = [job for job in left if job.key == batch.key and not job.future.done()]
        if hopeful:
            safely = min(curve.rows_within(job.due_s - start_s) for job in (*batch.jobs, *hopeful))
            assert any(places + job.places > min(curve.full_rows, safely) for job in hopeful)

    def check_turn(self, batch: Batch, before: Sequence[Job], left: Sequence[Job]) -> None:
        """The highest priority first, of it the most urgent; but before all else who has waited for too long."""
        first = batch.jobs[0]
        own = (first.key, first.priority)
        if self.since_s[own] + AGEING_S <= self.now_s:
            return
        assert not any(job.priority < first.priority for job in left if not job.future.done()), (
            "a higher priority waited behind a lower one that had not waited for long"
        )
        urgent_s = most_urgent_s(before, own)
        rivals = {(job.key, job.priority) for job in left if job.priority == first.priority} - {own}
        assert all(urgent_s <= most_urgent_s(before, rival) for rival in rivals)

    def check_that_nothing_is_lost(self, dropped: list[Job], taken: list[Job]) -> None:
        """Who is not here any more was handed back once, or had gone."""
        assert len({*dropped, *taken}) == len(dropped) + len(taken)
        here = set(self.queue)
        assert not here & {*dropped, *taken}
        assert all(job in here or job in dropped or job in taken or job.future.done() for job in self.waiting)
        for job in taken:
            self.since_s[job.key, job.priority] = self.now_s
        self.forget_what_left()

    def still_here(self, jobs: Sequence[Job]) -> list[Job]:
        here = set(self.queue)
        return [job for job in jobs if job in here]

    def forget_what_left(self) -> None:
        self.waiting = self.still_here(self.waiting)
        self.since_s = {level: since for level, since in self.since_s.items() if level in levels(self.waiting)}

    @invariant()
    def counts_and_bounds_hold(self) -> None:
        now, jobs = self.queue.statistics(), list(self.queue)
        assert sorted(map(id, jobs)) == sorted(map(id, self.waiting))
        assert now.jobs == len(jobs)
        assert now.rows == self.queue.rows == places_of(jobs) <= MAX_ROWS
        assert now.size_bytes == sum(job.size_bytes for job in jobs) <= MAX_BYTES
        assert now.keys == len({job.key for job in jobs})
        assert self.queue.work_s == pytest.approx(sum(job.work_s for job in jobs), abs=1e-9)
        assert set(self.since_s) == levels(jobs)


def levels(jobs: Sequence[Job]) -> set[tuple[object, int]]:
    return {(job.key, job.priority) for job in jobs}


def places_of(jobs: Sequence[Job]) -> int:
    return sum(job.places for job in jobs)


def most_urgent_s(jobs: Sequence[Job], level: tuple[object, int]) -> float:
    return min(job.urgent_s for job in jobs if (job.key, job.priority) == level)


def check_order(batch: Batch, hopeful: Sequence[Job]) -> None:
    """One level after the other, each to its end before the next; in it each client's jobs by deadline."""
    priorities = [job.priority for job in batch.jobs]
    assert priorities[0] not in priorities[priorities.count(priorities[0]) :]
    others = priorities[priorities.count(priorities[0]) :]
    assert others == sorted(others)
    of_key = [job for job in hopeful if job.key == batch.key]
    for priority in set(priorities) - {priorities[-1]}:
        assert all(job in batch.jobs for job in of_key if job.priority == priority)
    taken: dict[tuple[int, str], list[Job]] = defaultdict(list)
    for job in batch.jobs:
        taken[job.priority, job.client].append(job)
    for (priority, client), jobs in taken.items():
        own = [job for job in of_key if (job.priority, job.client) == (priority, client)]
        assert jobs == sorted(own, key=lambda job: job.urgent_s)[: len(jobs)]


TestQueueAgainstItsModel = QueueMachine.TestCase
TestQueueAgainstItsModel.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


async def test_a_job_without_rows_counts_as_one() -> None:
    queue, single = Queue(2, 10), LatencyCurve(1)
    queue.push(job_of(0), single, 0)
    queue.push(job_of(0), single, 0)
    with pytest.raises(QueueFull, match="2 rows wait and 1 more would pass 2"):
        queue.push(job_of(0), single, 0)
    assert queue.take(0, 0).batch is not None
    assert queue.rows == 1


async def test_what_could_never_enter_is_too_large() -> None:
    queue = Queue(2, 10)
    with pytest.raises(RequestTooLarge, match="3 rows; the queue takes at most 2"):
        queue.push(job_of(3), ANY, 0)
    with pytest.raises(RequestTooLarge, match="11 bytes; the queue takes at most 10"):
        queue.push(job_of(1, 11), ANY, 0)


async def test_a_job_larger_than_a_batch_is_taken_alone() -> None:
    queue, curve = Queue(20, 10), LatencyCurve(4)
    large, small = job_of(9), job_of(1)
    queue.push(large, curve, 0)
    queue.push(small, curve, 0)
    batch = queue.take(0, 0).batch
    assert batch is not None
    assert batch.jobs == (large,)


async def test_many_keys_leave_no_trace() -> None:
    queue = Queue(1000, 1000)
    jobs = [job_of(key=str(number)) for number in range(1000)]
    for job in jobs:
        queue.push(job, ANY, 0)
    assert queue.statistics().keys == 1000
    for job in jobs[:900]:
        job.future.cancel()
    for job in jobs[900:]:
        batch = queue.take(0, 0).batch
        assert batch is not None
        assert batch.jobs == (job,)
    assert queue.statistics() == Queue(1, 1).statistics()
    assert queue.next_line(0) is None
    assert (queue._lines, queue._urgent, queue.work_s) == ({}, [], 0.0)


async def test_the_gone_make_room_in_a_full_queue() -> None:
    queue = Queue(100, 100)
    first = [job_of() for _ in range(100)]
    for job in first:
        queue.push(job, ANY, 0)
    refused = 0
    with pytest.raises(QueueFull):
        queue.push(job_of(), ANY, 0)
    for job in first[:50]:
        job.future.cancel()
    while queue.rows == 100:
        refused += 1
        try:
            queue.push(job_of(), ANY, 0)
        except QueueFull:
            continue
    assert queue.rows == 51
    assert refused <= 100 / LOOKS_PER_REFUSAL + 1


async def test_a_sweep_keeps_the_order_of_the_lines() -> None:
    queue = Queue(100, 100)
    gone = [job_of(key=key) for key in "abcd"]
    for number, job in enumerate(gone):
        queue.push(job, ANY, number * AGEING_S / 100)
        job.future.cancel()
    for number, key in enumerate("dcba", start=10):
        queue.push(job_of(key=key), ANY, number * AGEING_S / 100)
    queue.sweep(AGEING_S / 2)
    batches = [queue.take(AGEING_S / 2, AGEING_S / 2).batch for _ in range(4)]
    assert [batch and batch.key for batch in batches] == ["d", "c", "b", "a"]


async def test_admitted_pieces_all_fit() -> None:
    queue = Queue(10, 100)
    queue.push(job_of(4, 40), ANY, 0)
    queue.admit(6, 60)
    for _ in range(3):
        queue.push(job_of(2, 20), ANY, 0)
    assert (queue.rows, queue.size_bytes) == (10, 100)
