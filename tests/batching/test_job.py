from __future__ import annotations

import asyncio

import numpy as np
import pytest

from batching.job import Batch, Job, JobResult, batch_of, size_bytes
from batching.recovery import after_death, after_failure
from inference.errors import ModelFailed
from inference.types import BatchResult
from tests.batching.fakes import column, numbers


def test_the_elements_of_bytes_tensors_are_counted() -> None:
    assert size_bytes(()) == 0
    assert size_bytes((np.zeros((3, 2), np.float32), np.zeros(0, np.int8))) == 24
    assert size_bytes((np.array([[b"abc"], [b""]], dtype=object),)) == 16 + 3


def batch_of_rows(*rows: int) -> Batch:
    loop = asyncio.get_running_loop()
    jobs = [Job(count, 0, "key", (), ("y",), 0.0, loop.create_future(), 1.0) for count in rows]
    return batch_of(jobs)


async def test_a_batch_knows_its_rows_and_what_its_jobs_share() -> None:
    batch = batch_of_rows(1, 0, 3)
    assert (batch.rows, batch.key, batch.outputs, batch.deaths) == (4, "key", ("y",), 0)


async def test_an_answer_goes_to_who_is_still_there() -> None:
    batch = batch_of_rows(1, 2, 1)
    first, gone, last = [job.future for job in batch.jobs]
    gone.cancel()
    batch.answer(BatchResult((column(1, 2, 3, 4),), compute_s=0.5), now_s=3.0)
    assert [numbers(future.result().outputs[0]) for future in (first, last)] == [[1], [4]]
    assert (last.result().queue_s, last.result().compute_s, last.result().batch_rows) == (1.5, 0.5, 4)


async def test_a_refused_answer_ends_nobody() -> None:
    batch = batch_of_rows(1, 1)
    with pytest.raises(ModelFailed, match=r"output 'y' has shape \(3, 1\) for a batch of 2 rows"):
        batch.answer(BatchResult((column(1, 2, 3),), 0.0), 0.0)
    assert not any(job.future.done() for job in batch.jobs)


async def test_no_wait_is_negative() -> None:
    for batch in batch_of_rows(1), batch_of_rows(1, 1):
        batch.answer(BatchResult((column(*range(batch.rows)),), compute_s=99.0), now_s=2.0)
        assert [job.future.result().queue_s for job in batch.jobs] == [0.0] * len(batch.jobs)


async def test_an_error_comes_too_late_for_who_has_ended() -> None:
    batch = batch_of_rows(1, 1)
    result = JobResult((column(1),), 0.0, 0.0, 1)
    batch.jobs[0].answer(result)
    batch.fail(error := ModelFailed("too late"))
    assert batch.jobs[0].future.result() is result
    assert batch.jobs[1].future.exception() is error


async def test_a_death_before_the_run_blames_nobody() -> None:
    batch = batch_of_rows(1, 1)
    assert after_death(batch, running=False) == (batch,)


async def test_two_deaths_take_a_batch_apart_and_one_more_is_the_end() -> None:
    batch = batch_of_rows(2, 1)
    (again,) = after_death(batch, running=True)
    assert (again.jobs, again.rows, again.deaths) == (batch.jobs, 3, 1)
    alone = after_death(again, running=True)
    assert [(one.jobs, one.rows, one.deaths) for one in alone] == [
        ((batch.jobs[0],), 2, 1),
        ((batch.jobs[1],), 1, 1),
    ]
    assert after_death(alone[0], running=True) == ()


async def test_a_failure_takes_a_batch_apart_and_keeps_its_deaths() -> None:
    (again,) = after_death(batch_of_rows(1, 1), running=True)
    assert [(len(one.jobs), one.deaths) for one in after_failure(again)] == [(1, 1), (1, 1)]
    assert after_failure(batch_of_rows(1)) == ()
