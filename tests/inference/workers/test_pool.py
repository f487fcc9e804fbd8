"""Workers as the batcher uses them, with real processes."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uvloop

import sluice
from sluice.inference.errors import ModelFailed, WorkerDied
from sluice.inference.transport.arena import SLOTS, SMALLEST_AREA_BYTES
from sluice.inference.transport.channel import PACKET_BYTES
from sluice.inference.types import STORAGE, Array, Datatype, Vacancy
from sluice.inference.workers.pool import WorkerOptions
from tests import models
from tests.inference.running import (
    ENDLESS,
    PATIENCE_S,
    SHORT,
    assert_same,
    nothing_left,
    running,
    until,
    until_in_flight,
)

EDGES: dict[Datatype, list[int | float]] = {
    Datatype.FP16: [math.nan, math.inf, -0.0, 6.0e-8, 65504.0],
    Datatype.FP32: [math.nan, -math.inf, -0.0, 1e-45, 3.4e38],
    Datatype.FP64: [math.nan, math.inf, -0.0, 5e-324, 1.7e308],
    Datatype.BOOL: [True, False],
    Datatype.BF16: [0x7FC1, 0xFF80, 0x8000, 0x0001, 0x3F80],
}


def _samples(datatype: Datatype) -> Array:
    dtype = STORAGE[datatype]
    if datatype is Datatype.BYTES:
        elements = np.empty(6, np.object_)
        elements[:] = [b"", b"a", "größe".encode(), b"nul\0inside", "🚰".encode(), b"x" * 300]
        return elements.reshape(2, 3)
    if datatype in EDGES:
        return np.resize(np.array(EDGES[datatype], dtype), (2, 3))
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max, 0], [1, 2, limits.max - 1]], dtype)


@pytest.mark.parametrize("datatype", list(Datatype))
async def test_every_datatype_comes_back_bit_for_bit(datatype: Datatype, tmp_path: Path) -> None:
    sample = _samples(datatype)
    async with running(models.identity(datatype), tmp_path) as (workers, _):
        assert workers.signature.batched
        for parts in ([sample], [sample, sample[:1], sample[:0]], [sample[:0]]):
            result = await workers.run([(part,) for part in parts], ["y"])
            assert_same(result.outputs[0], np.concatenate(parts))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_both_event_loops(new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    async def scenario() -> None:
        with nothing_left():
            async with running(models.linear(), tmp_path, WorkerOptions(count=2)) as (workers, listener):
                arrays = [(np.full((rows, 1), rows, np.float32),) for rows in (1, 2, 3, SMALLEST_AREA_BYTES)]
                results = await asyncio.gather(*[workers.run([part], ["y"]) for part in arrays])
                os.kill(workers.statistics().pids[0], signal.SIGKILL)
                await until(lambda: workers.vacancy().idle < 2)
                await listener.until_idle(workers, 2)
        for (x,), result in zip(arrays, results, strict=True):
            assert_same(result.outputs[0], 2 * x - 1)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_rows_of_several_parts_come_back_in_order(tmp_path: Path) -> None:
    async with running(models.two_in_two_out(), tmp_path) as (workers, _):
        parts = [(np.full((rows, 4), rows, np.float32), np.full((rows, 2), -rows, np.int64)) for rows in (2, 1, 3)]
        result = await workers.run(parts, ["a_doubled", "b_plus_one"])
        doubled, plus_one = result.outputs
        assert_same(doubled, np.concatenate([2 * a for a, _ in parts]))
        assert_same(plus_one, np.concatenate([b + 1 for _, b in parts]))
        assert result.compute_s > 0
        assert_same((await workers.run(parts[:1], ["b_plus_one"])).outputs[0], parts[0][1] + 1)


async def test_a_batch_says_how_long_it_kept_its_worker(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, _):
        long = (np.zeros((1, 1), np.float32), np.array([[20_000]]))
        began_s = time.monotonic()
        ahead, behind = await asyncio.gather(workers.run([long], ["y"]), workers.run([SHORT], ["y"]))
        both_s = time.monotonic() - began_s
        assert ahead.compute_s < ahead.run_s
        assert 0 < behind.run_s < ahead.run_s  # the wait behind the other does not count
        assert ahead.run_s + behind.run_s <= both_s


async def test_an_array_that_is_not_contiguous_is_taken_as_it_reads(tmp_path: Path) -> None:
    async with running(models.identity(Datatype.FP32), tmp_path) as (workers, _):
        turned = np.arange(12, dtype=np.float32).reshape(3, 4).T
        assert_same((await workers.run([(turned,)], ["y"])).outputs[0], np.ascontiguousarray(turned))


async def test_inner_axes_of_any_size(tmp_path: Path) -> None:
    async with running(models.any_width(), tmp_path) as (workers, _):
        for width in (1, 7, 0):
            result = await workers.run([(np.ones((2, width), np.float32),)], ["sum"])
            assert result.outputs[0].tolist() == [width, width]


async def test_a_model_with_fixed_rows_takes_one_part_at_a_time(tmp_path: Path) -> None:
    async with running(models.fixed_rows(2), tmp_path) as (workers, _):
        assert workers.findings.because == "axis 0 of input 'x' has the fixed size 2"
        assert not workers.signature.batched
        part = (np.ones((2, 4), np.float32),)
        assert_same((await workers.run([part], ["y"])).outputs[0], 2 * part[0])
        with pytest.raises(ValueError, match="not batched"):
            await workers.run([part, part], ["y"])
        assert workers.vacancy() == Vacancy(1, 0, 1)


async def test_a_single_value(tmp_path: Path) -> None:
    async with running(models.scalar(), tmp_path) as (workers, _):
        result = await workers.run([(np.array(21, np.float32),)], ["y"])
        assert_same(result.outputs[0], np.array(42, np.float32))


async def test_a_model_that_is_found_to_lose_rows_is_not_batched(tmp_path: Path) -> None:
    async with running(models.nonzero(), tmp_path) as (workers, _):
        assert workers.findings.because.startswith("output 'places': NonZero lists the elements of all rows ")
        result = await workers.run([(np.eye(3, dtype=np.float32),)], ["places"])
        assert result.outputs[0].tolist() == [[0, 0], [1, 1], [2, 2]]


async def test_a_model_that_mixes_rows_is_not_batched(tmp_path: Path) -> None:
    async with running(models.centred(), tmp_path) as (workers, _):
        assert not workers.signature.batched
        assert workers.findings.because.startswith("output 'y': ReduceMean ")
        with pytest.raises(ValueError, match="not batched"):
            await workers.run([(np.ones((1, 2), np.float32),)] * 2, ["y"])


async def test_the_operators_word_reaches_the_worker(tmp_path: Path) -> None:
    async with running(models.linear(), tmp_path, WorkerOptions(count=1, intra_op_threads=1, batched=False)) as (
        workers,
        _,
    ):
        assert not workers.signature.batched
        assert workers.findings.because == "model.toml or the settings say so"


async def test_a_model_that_cannot_be_warmed_up_says_why(tmp_path: Path) -> None:
    async with running(models.lookup(0), tmp_path) as (workers, _):
        assert "must be within the inclusive range [0,-1]" in workers.findings.notes[0]
    async with running(models.lookup(1), tmp_path) as (workers, _):
        assert workers.findings.notes == ()


async def test_a_batch_that_no_message_can_describe_fails_alone(tmp_path: Path) -> None:
    async with running(models.identity(Datatype.FP32, ["N"] + ["W"] * 7), tmp_path) as (workers, listener):
        pid = workers.statistics().pids
        names = ["y"] * PACKET_BYTES
        with pytest.raises(ModelFailed, match=f"at most {PACKET_BYTES} can be sent"):
            await workers.run([(np.ones((1,) * 8, np.float32),)], names)
        assert workers.vacancy() == Vacancy(1, 0, 1)
        assert (await workers.run([(np.ones((1,) * 8, np.float32),)], ["y"])).outputs[0].size == 1
        assert (workers.statistics().pids, listener.restarts) == (pid, 0)


@pytest.mark.parametrize("error", [MemoryError(), TypeError("nonsense")])
async def test_outputs_that_cannot_be_taken_end_their_batch_and_free_its_slot(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    async with running(models.linear(), tmp_path) as (workers, listener):
        x = (np.ones((1, 1), np.float32),)
        with monkeypatch.context() as patched:
            patched.setattr("sluice.inference.workers.exchange.copies", broken)
            for _ in range(SLOTS + 1):
                async with asyncio.timeout(PATIENCE_S):
                    with pytest.raises(ModelFailed, match="could not be taken from the worker") as caught:
                        await workers.run([x], ["y"])
                assert caught.value.__cause__ is error
        assert workers.vacancy() == Vacancy(1, 0, 1)
        assert (await workers.run([x], ["y"])).outputs[0].tolist() == [[1]]
        assert listener.restarts == 0


async def test_a_model_with_one_row_only_is_not_batched(tmp_path: Path) -> None:
    async with running(models.one_row_only(), tmp_path) as (workers, _):
        assert workers.findings.because.startswith("output 'y': ReduceMax ")


async def test_a_batch_whose_rows_cannot_be_told_apart_fails_and_a_single_part_does_not(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, batched="unchecked")  # rows are not tried then
    async with running(models.drops_negative_rows(), tmp_path, options) as (workers, _):
        assert workers.signature.batched
        part = (np.array([[1], [-1]], np.float32),)
        with pytest.raises(ModelFailed, match=r"output 'y' has the shape \[2, 1\] for a batch of 4 rows") as caught:
            await workers.run([part, part], ["y"])
        assert not caught.value.invalid_input
        assert (await workers.run([part], ["y"])).outputs[0].tolist() == [[1]]


async def test_an_input_that_the_model_refuses_leaves_the_worker_well(tmp_path: Path) -> None:
    async with running(models.lookup(5), tmp_path) as (workers, listener):
        with pytest.raises(ModelFailed, match="idx=9 must be within") as caught:
            await workers.run([(np.array([1]),), (np.array([9]),)], ["y"])
        assert caught.value.invalid_input
        assert (await workers.run([(np.array([1]),)], ["y"])).outputs[0].tolist() == [[2, 3]]
        assert listener.restarts == 0


async def test_vacancy_and_statistics_tell_what_stands(tmp_path: Path) -> None:
    options = WorkerOptions(count=2, intra_op_threads=1)
    async with running(models.loop(), tmp_path, options) as (workers, listener):
        await asyncio.gather(*[workers.run([SHORT], ["y"]) for _ in range(2)])
        assert listener.vacancies == 2
        seen = [workers.vacancy()]
        tasks = []
        for count in range(1, 5):
            tasks.append(asyncio.create_task(workers.run([ENDLESS], ["y"])))
            await until_in_flight(workers, count)
            seen.append(workers.vacancy())
        assert seen == [Vacancy(2, 0, 2), Vacancy(1, 1, 2), Vacancy(0, 2, 2), Vacancy(0, 1, 2), Vacancy(0, 0, 2)]
        statistics = workers.statistics()
        assert (statistics.alive, statistics.in_flight, statistics.restarts) == (2, 4, 0)
        assert len(set(statistics.pids)) == 2
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [WorkerDied] * 4


async def test_a_batch_beyond_the_vacancy_may_be_run_again(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, _):
        tasks = [asyncio.create_task(workers.run([ENDLESS], ["y"])) for _ in range(2)]
        await until_in_flight(workers, 2)
        assert workers.vacancy() == Vacancy(0, 0, 1)
        with pytest.raises(WorkerDied, match="no worker has room") as caught:
            await workers.run([SHORT], ["y"])
        assert not caught.value.running
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [WorkerDied] * 2


async def test_a_caller_that_gives_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with running(models.linear(), tmp_path) as (workers, listener):
        one = asyncio.create_task(workers.run([(np.full((1, 1), 1, np.float32),)], ["y"]))
        two = asyncio.create_task(workers.run([(np.full((1, 1), 2, np.float32),)], ["y"]))
        await until_in_flight(workers, 2)
        one.cancel()
        assert (await two).outputs[0].tolist() == [[3]]
        await listener.until_idle(workers, 1)
        assert one.cancelled()


def test_the_gateway_does_not_import_the_engine() -> None:
    code = "import sys, sluice.inference.workers.pool; print(sorted(m for m in sys.modules if m.startswith('onnx')))"
    packages = str(Path(sluice.__file__).parent.parent)
    printed = subprocess.run([sys.executable, "-c", code], cwd=packages, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


async def test_a_gateway_that_comes_late_to_an_answer_does_not_hold_it_against_the_model(tmp_path: Path) -> None:
    """Two batches run while the event loop is busy, mostly for much longer than they take."""
    part = (np.ones((1, 4), np.float32),)
    async with running(models.tiny(), tmp_path) as (workers, _):
        sent_s = time.monotonic()
        runs = [asyncio.ensure_future(workers.run([part], ["y"])) for _ in range(2)]
        await until_in_flight(workers, 2)
        while time.monotonic() < sent_s + 0.1:
            pass
        first, second = [await run for run in runs]
    first_end_s, second_end_s = [each.began_s + each.compute_s for each in (first, second)]
    assert 0.0 < first.run_s <= first_end_s - sent_s
    assert 0.0 < second.run_s <= second_end_s - first_end_s + 1e-9
