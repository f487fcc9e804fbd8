"""The queue against a model of it that is too simple to be wrong."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batching.job import Job
from batching.queue import LOOKS_PER_REFUSAL, Queue
from inference.errors import QueueFull, RequestTooLarge
from tests.batching.virtual_time import VirtualTimeLoop

MAX_ROWS, MAX_BYTES = 20, 100


class QueueMachine(RuleBasedStateMachine):
    """The model: one list of waiting jobs in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue = Queue(MAX_ROWS, MAX_BYTES)
        self.waiting: list[Job] = []
        self.now_s = 0.0

    def teardown(self) -> None:
        self.loop.close()

    @rule(
        rows=st.integers(0, 6),
        size_bytes=st.integers(0, 30),
        key=st.sampled_from("abc"),
        within_s=st.sampled_from([1, 3, math.inf]),
        later_s=st.sampled_from([0, 0, 1]),
    )
    def push(self, rows: int, size_bytes: int, key: str, within_s: float, later_s: float) -> None:
        self.now_s += later_s
        job = job_of(self.loop, rows, size_bytes, key, self.now_s + within_s)
        try:
            self.queue.push(job, self.now_s)
        except QueueFull:
            kept = [other for other in self.waiting if other in set(self.queue)]
            assert all(other.future.done() for other in self.waiting if other not in kept)
            assert sum(other.places for other in kept) + job.places > MAX_ROWS or (
                sum(other.size_bytes for other in kept) + size_bytes > MAX_BYTES
            )
            self.waiting = kept
        else:
            self.waiting = [other for other in self.waiting if other in set(self.queue) or not other.future.done()]
            self.waiting.append(job)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            data.draw(st.sampled_from(self.waiting)).future.cancel()

    @rule(max_rows=st.integers(1, 12), later_s=st.sampled_from([0, 1, 2]))
    def take(self, max_rows: int, later_s: float) -> None:
        self.now_s += later_s
        alive = [job for job in self.waiting if not job.future.done() and job.deadline_s > self.now_s]
        taken = self.queue.take(max_rows, self.now_s)
        if not alive:
            assert taken.batch is None
        else:
            assert taken.batch is not None
            assert list(taken.batch.jobs) == expected_batch(alive, max_rows, taken.batch.key)
            assert taken.batch.rows == sum(job.rows for job in taken.batch.jobs)
        self.leave(list(taken.expired), list(taken.batch.jobs) if taken.batch else [])

    @rule(later_s=st.sampled_from([0, 1, 2]))
    def sweep(self, later_s: float) -> None:
        self.now_s += later_s
        expired = self.queue.sweep(self.now_s)
        late = [job for job in self.waiting if not job.future.done() and job.deadline_s <= self.now_s]
        assert set(expired) == set(late)
        self.leave(expired, [])
        assert not any(job.future.done() for job in self.queue)

    def leave(self, expired: list[Job], taken: list[Job]) -> None:
        """Nothing is lost or doubled: who is not here any more was handed back once, or has gone."""
        assert all(job.deadline_s <= self.now_s and not job.future.done() for job in expired)
        assert len(set(expired) | set(taken)) == len(expired) + len(taken)
        still_here = set(self.queue)
        assert not still_here & {*expired, *taken}
        assert all(job in still_here or job in expired or job in taken or job.future.done() for job in self.waiting)
        self.waiting = [job for job in self.waiting if job in still_here]

    @invariant()
    def counts_and_bounds_hold(self) -> None:
        now, jobs = self.queue.statistics(), list(self.queue)
        assert sorted(map(id, jobs)) == sorted(map(id, self.waiting))
        assert now.jobs == len(jobs)
        assert now.rows == self.queue.rows == sum(job.places for job in jobs) <= MAX_ROWS
        assert now.size_bytes == sum(job.size_bytes for job in jobs) <= MAX_BYTES
        assert now.keys == len({job.key for job in jobs})
        assert (self.queue.next_rows() > 0) == bool(jobs)


def expected_batch(alive: list[Job], max_rows: int, key: object) -> list[Job]:
    """What should have been taken: of the key whose first job is the oldest, the jobs that fit, in order."""
    oldest_s = min(job.enqueued_s for job in alive)
    assert key in {job.key for job in alive if job.enqueued_s == oldest_s}
    batch: list[Job] = []
    for job in [job for job in alive if job.key == key]:
        if batch and sum(other.places for other in batch) + job.places > max_rows:
            break
        batch.append(job)
    return batch


TestQueueAgainstItsModel = QueueMachine.TestCase
TestQueueAgainstItsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def job_of(
    loop: asyncio.AbstractEventLoop, rows: int, size_bytes: int = 0, key: str = "a", deadline_s: float = math.inf
) -> Job:
    return Job(rows, size_bytes, key, (), (), deadline_s, loop.create_future())


async def test_a_job_without_rows_counts_as_one() -> None:
    queue, loop = Queue(2, 10), asyncio.get_running_loop()
    queue.push(job_of(loop, 0), 0)
    queue.push(job_of(loop, 0), 0)
    with pytest.raises(QueueFull, match="2 rows wait and 1 more would pass 2"):
        queue.push(job_of(loop, 0), 0)
    assert queue.take(1, 0).batch is not None
    assert queue.rows == 1


async def test_what_could_never_enter_is_too_large() -> None:
    queue, loop = Queue(2, 10), asyncio.get_running_loop()
    with pytest.raises(RequestTooLarge, match="3 rows; the queue takes at most 2"):
        queue.push(job_of(loop, 3), 0)
    with pytest.raises(RequestTooLarge, match="11 bytes; the queue takes at most 10"):
        queue.push(job_of(loop, 1, 11), 0)


async def test_a_job_larger_than_a_batch_is_taken_alone() -> None:
    queue, loop = Queue(20, 10), asyncio.get_running_loop()
    large, small = job_of(loop, 9), job_of(loop, 1)
    queue.push(large, 0)
    queue.push(small, 0)
    batch = queue.take(4, 0).batch
    assert batch is not None
    assert batch.jobs == (large,)


async def test_many_keys_leave_no_trace() -> None:
    queue, loop = Queue(1000, 1000), asyncio.get_running_loop()
    jobs = [job_of(loop, 1, key=str(number)) for number in range(1000)]
    for job in jobs:
        queue.push(job, 0)
    assert queue.statistics().keys == 1000
    for job in jobs[:900]:
        job.future.cancel()
    for job in jobs[900:]:
        batch = queue.take(64, 0).batch
        assert batch is not None
        assert batch.jobs == (job,)
    assert queue.statistics() == Queue(1, 1).statistics()
    assert (queue._lines, queue._heads) == ({}, [])


async def test_the_gone_make_room_in_a_full_queue() -> None:
    queue, loop = Queue(100, 100), asyncio.get_running_loop()
    first = [job_of(loop, 1) for _ in range(100)]
    for job in first:
        queue.push(job, 0)
    refused = 0
    with pytest.raises(QueueFull):
        queue.push(job_of(loop, 1), 0)
    for job in first[:50]:
        job.future.cancel()
    while queue.rows == 100:
        refused += 1
        try:
            queue.push(job_of(loop, 1), 0)
        except QueueFull:
            continue
    assert queue.rows == 51
    assert refused <= 100 / LOOKS_PER_REFUSAL + 1


async def test_a_sweep_keeps_the_order_of_the_lines() -> None:
    queue, loop = Queue(100, 100), asyncio.get_running_loop()
    gone = [job_of(loop, 1, key=key) for key in "abcd"]
    for now_s, job in enumerate(gone):
        queue.push(job, now_s)
        job.future.cancel()
    for now_s, key in enumerate("dcba", start=10):
        queue.push(job_of(loop, 1, key=key), now_s)
    queue.sweep(20)
    batches = [queue.take(9, 20).batch for _ in range(4)]
    assert [batch and batch.key for batch in batches] == ["d", "c", "b", "a"]
