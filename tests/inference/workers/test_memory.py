"""Batches that do not fit a slot, and what is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sluice.inference.errors import ModelFailed, RequestTooLarge
from sluice.inference.transport.arena import GUESSED_AREA_BYTES, SMALLEST_AREA_BYTES
from sluice.inference.types import Datatype
from sluice.inference.workers.pool import WorkerOptions
from tests import models
from tests.inference.running import assert_same, descriptors, nothing_left, running, shared_mappings

ONE_ROW = WorkerOptions(count=1, intra_op_threads=1, max_rows=1)


async def test_inputs_and_outputs_larger_than_a_slot_are_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    async with running(models.identity(Datatype.FP32), tmp_path, ONE_ROW) as (workers, _):
        rows = SMALLEST_AREA_BYTES // 12
        for count in (rows, rows + 1, 3 * rows):  # just within the slot, just beyond it, far beyond it
            parts = [(rng.random((count - 5, 3), np.float32),), (rng.random((5, 3), np.float32),)]
            result = await workers.run(parts, ["y"])
            assert_same(result.outputs[0], np.concatenate([parts[0][0], parts[1][0]]))


async def test_a_small_input_with_an_output_larger_than_a_slot(tmp_path: Path) -> None:
    async with running(models.repeated(), tmp_path) as (workers, _):
        columns = GUESSED_AREA_BYTES // 4 + 1
        x = np.array([[3]], np.float32)
        (output,) = (await workers.run([(x, np.array([1, columns]))], ["y"])).outputs
        assert_same(output, np.full((1, columns), 3, np.float32))
        (output,) = (await workers.run([(x, np.array([0, 5]))], ["y"])).outputs
        assert_same(output, np.zeros((0, 5), np.float32))


async def test_bytes_larger_than_a_slot(tmp_path: Path) -> None:
    async with running(models.strings(), tmp_path) as (workers, _):
        long = np.empty(2, np.object_)
        long[:] = [b"a" * (GUESSED_AREA_BYTES + 1), b"b"]
        assert_same((await workers.run([(long,)], ["y"])).outputs[0], long)


async def test_outputs_belong_to_the_caller_once_given(tmp_path: Path) -> None:
    async with running(models.identity(Datatype.INT32), tmp_path) as (workers, _):
        (first,) = (await workers.run([(np.full((2, 3), 1, np.int32),)], ["y"])).outputs
        for _ in range(3):
            await workers.run([(np.full((2, 3), 9, np.int32),)], ["y"])
        assert (first == 1).all()
        first[:] = 2


async def test_nothing_is_left_behind_by_many_batches(tmp_path: Path) -> None:
    with nothing_left():
        async with running(models.identity(Datatype.FP32), tmp_path, ONE_ROW) as (workers, _):
            small, large = np.ones((1, 3), np.float32), np.ones((SMALLEST_AREA_BYTES // 8, 3), np.float32)
            (worker,) = workers.statistics().pids
            counts = set()
            for _ in range(30):
                await workers.run([(small,)], ["y"])
                await workers.run([(large,)], ["y"])
                await workers.run([(small,)], ["y"])  # the worker has let the large one go once it answers this
                counts.add((descriptors(), shared_mappings(), descriptors(worker), shared_mappings(worker)))
            assert len(counts) == 1


async def test_outputs_beyond_what_an_answer_may_have_are_not_taken(tmp_path: Path) -> None:
    limit = GUESSED_AREA_BYTES + 4096
    with nothing_left():
        options = WorkerOptions(count=1, intra_op_threads=1, max_answer_bytes=limit)
        async with running(models.repeated(), tmp_path, options) as (workers, _):
            x = np.array([[3]], np.float32)
            for columns in (limit // 4 + 1, limit):
                with pytest.raises(RequestTooLarge, match=rf"{4 * columns} bytes; it may have at most {limit}"):
                    await workers.run([(x, np.array([1, columns]))], ["y"])
            assert (await workers.run([(x, np.array([1, limit // 4]))], ["y"])).outputs[0].nbytes == limit
            assert workers.statistics().restarts == 0


async def test_nobody_is_blamed_for_the_outputs_of_a_batch_that_are_too_large_together(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, max_answer_bytes=1200)
    async with running(models.identity(Datatype.FP32), tmp_path, options) as (workers, _):
        one = (np.ones((100, 3), np.float32),)
        assert (await workers.run([one, one], ["y"])).outputs[0].nbytes == 2400
        with pytest.raises(ModelFailed, match="2 requests"):
            await workers.run([one, (np.ones((101, 3), np.float32),)], ["y"])
