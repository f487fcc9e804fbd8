from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.job import Batch, JobResult, batch_of, size_bytes
from sluice.batching.recovery import after_failure
from sluice.inference.errors import ModelFailed
from sluice.inference.types import BatchResult
from tests.batching.fakes import column, job_of, numbers

PROMISED_S = 10.0


def test_the_elements_of_bytes_tensors_are_counted() -> None:
    assert size_bytes(()) == 0
    assert size_bytes((np.zeros((3, 2), np.float32), np.zeros(0, np.int8))) == 24
    assert size_bytes((np.array([[b"abc"], [b""]], dtype=object),)) == 16 + 3


def batch_of_rows(*rows: int) -> Batch:
    jobs = [job_of(count, promised_s=PROMISED_S) for count in rows]
    for job in jobs:
        job.enqueued_s = 1.0
    return batch_of(jobs)


async def test_a_batch_knows_its_rows_and_what_its_jobs_share() -> None:
    batch = batch_of_rows(1, 0, 3)
    assert (batch.rows, batch.key, batch.outputs, batch.deaths) == (4, "a", ("y",), 0)


async def test_an_answer_goes_to_who_is_still_there() -> None:
    batch = batch_of_rows(1, 2, 1)
    first, gone, last = [job.future for job in batch.jobs]
    gone.cancel()
    batch.answer(BatchResult((column(1, 2, 3, 4),), compute_s=0.5, run_s=0.75), sent_s=1.5, now_s=3.0)
    assert [numbers(future.result().outputs[0]) for future in (first, last)] == [[1], [4]]
    result = last.result()
    assert (result.queue_s, result.batch_s, result.compute_s, result.batch_rows) == (0.5, 1.5, 0.5, 4)


async def test_a_refused_answer_ends_nobody() -> None:
    batch = batch_of_rows(1, 1)
    with pytest.raises(ModelFailed, match=r"output 'y' has shape \(3, 1\) for a batch of 2 rows"):
        batch.answer(BatchResult((column(1, 2, 3),), 0.0, 0.0), 0.0, 0.0)
    assert not any(job.future.done() for job in batch.jobs)


async def test_an_error_comes_too_late_for_who_has_ended() -> None:
    batch = batch_of_rows(1, 1)
    result = JobResult((column(1),), 0.0, 0.0, 0.0, 1)
    batch.jobs[0].answer(result)
    batch.fail(error := ModelFailed("too late"))
    assert batch.jobs[0].future.result() is result
    assert batch.jobs[1].future.exception() is error


@given(st.integers(2, 100), st.integers(0, 1))
async def test_a_failure_halves_a_batch_and_holds_no_death_against_it(count: int, deaths: int) -> None:
    batch = batch_of_rows(*range(count))
    halves = after_failure(Batch(batch.jobs, batch.rows, deaths, weight=deaths))
    assert [job for half in halves for job in half.jobs] == list(batch.jobs)
    assert sorted(len(half.jobs) for half in halves) == [count // 2, count - count // 2]
    assert [half.rows for half in halves] == [sum(job.rows for job in half.jobs) for half in halves]
    assert [(half.deaths, half.weight) for half in halves] == [(deaths, 0), (deaths, 0)]


async def test_a_failure_of_one_job_is_its_end() -> None:
    assert after_failure(batch_of_rows(1)) == ()


@pytest.mark.parametrize("rows", [(1,), (1, 1)])
@pytest.mark.parametrize(("now_s", "late"), [(PROMISED_S, False), (PROMISED_S + 1e-6, True)])
async def test_an_answer_after_the_promise_is_marked(rows: tuple[int, ...], now_s: float, late: bool) -> None:
    batch = batch_of_rows(*rows)
    batch.answer(BatchResult((column(*rows),), 0.0, 0.0), 1.0, now_s)
    assert [job.future.result().late for job in batch.jobs] == [late] * len(rows)
