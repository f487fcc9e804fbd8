"""Whatever happens to a batch, only the guilty fail."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.batching.policy import Reason
from sluice.batching.report import BatchOutcome
from sluice.inference.errors import ModelFailed, ModelNotReady, WorkerKilled
from sluice.inference.types import Cause
from tests.batching.fakes import Door, Puppet, answer, column
from tests.batching.virtual_time import pass_time, quiet


async def test_a_batch_whose_worker_died_before_it_began_is_run_again_unblamed() -> None:
    async with Door(puppet := Puppet()) as door:
        first, second = door.ask(1), door.ask(2)
        await quiet()
        for _ in range(5):
            puppet.out[0].die(running=False)
            await quiet()
            assert puppet.out[0].values == [[1], [2]]
        puppet.out[0].finish()
        await quiet()
        assert (answer(first), answer(second)) == ([1], [2])
        assert [(report.reason, report.outcome) for report in door.reports] == [(Reason.AGAIN, BatchOutcome.ANSWERED)]


async def test_a_batch_whose_worker_was_killed_once_is_run_again_whole() -> None:
    async with Door(puppet := Puppet()) as door:
        first, second = door.ask(1), door.ask(2)
        await quiet()
        puppet.out[0].die(Cause.KILLED)
        await quiet()
        assert puppet.out[0].values == [[1], [2]]
        puppet.out[0].finish()
        await quiet()
        assert (answer(first), answer(second)) == ([1], [2])
        assert [report.outcome for report in door.reports] == [BatchOutcome.DIED, BatchOutcome.ANSWERED]


async def test_a_request_that_keeps_killing_fails_alone() -> None:
    async with Door(puppet := Puppet()) as door:
        before, guilty, after = door.ask(1), door.ask(2), door.ask(3)
        await quiet()
        while puppet.out:
            run = puppet.out[0]
            if [2.0] in run.values:
                run.die()
            else:
                run.finish()
            await quiet()
        assert [run.values for run in puppet.runs] == [[[1], [2], [3]], [[1]], [[2]], [[3]], [[2]]]
        assert (answer(before), answer(after)) == ([1], [3])
        with pytest.raises(WorkerKilled, match="died in 3 runs of this request, 2 of them alone"):
            guilty.result()


async def test_a_lone_request_that_kills_twice_is_not_run_a_third_time() -> None:
    async with Door(puppet := Puppet()) as door:
        guilty = door.ask(1)
        await quiet()
        for _ in range(2):
            assert not guilty.done()
            puppet.out[0].die()
            await quiet()
        assert isinstance(guilty.exception(), WorkerKilled)
        assert len(puppet.runs) == 2


async def test_a_batch_that_the_model_fails_is_halved() -> None:
    async with Door(puppet := Puppet()) as door:
        before, guilty, after = door.ask(1), door.ask(2), door.ask(3)
        own = ModelFailed("row 0 is out of range", invalid_input=True)
        await quiet()
        while puppet.out:
            run = puppet.out[0]
            if [2.0] in run.values:
                run.fail(own if len(run.parts) == 1 else None)
            else:
                run.finish()
            await quiet()
        assert (answer(before), answer(after)) == ([1], [3])
        assert guilty.exception() is own
        assert [run.values for run in puppet.runs] == [[[1], [2], [3]], [[1]], [[2], [3]], [[2]], [[3]]]
        assert [report.outcome for report in door.reports] == ["failed", "answered", "failed", "failed", "answered"]


@pytest.mark.parametrize("guilty", [0, 1, 37, 62, 63])
async def test_one_guilty_of_64_is_found_in_13_runs_and_its_neighbours_are_answered(guilty: int) -> None:
    async with Door(puppet := Puppet()) as door:
        requests = [door.ask(value) for value in range(64)]
        await quiet()
        while puppet.out:
            run = puppet.out[0]
            if [float(guilty)] in run.values:
                run.fail()
            else:
                run.finish()
            await quiet()
        assert len(puppet.runs) == 2 * math.log2(64) + 1
        assert isinstance(requests.pop(guilty).exception(), ModelFailed)
        assert [answer(request) for request in requests] == [[value] for value in range(64) if value != guilty]


async def test_a_lone_request_that_the_model_fails_is_not_run_again() -> None:
    async with Door(puppet := Puppet()) as door:
        guilty = door.ask(1)
        await quiet()
        puppet.out[0].fail()
        await quiet()
        assert isinstance(guilty.exception(), ModelFailed)
        assert len(puppet.runs) == 1


async def test_what_is_run_again_goes_before_the_queue() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1)
        door.ask(2)
        await quiet()
        door.ask(3)
        puppet.out[0].fail()
        await quiet()
        for _ in range(3):
            puppet.out[0].finish()
            await quiet()
        assert [run.values for run in puppet.runs[1:]] == [[[1]], [[2]], [[3]]]


async def test_who_has_gone_is_left_out_when_a_batch_is_run_again() -> None:
    async with Door(puppet := Puppet()) as door:
        stays, gone = door.ask(1), door.ask(2)
        await quiet()
        gone.cancel()
        puppet.out[0].die()
        await quiet()
        assert puppet.out[0].values == [[1]]
        stays.cancel()
        puppet.out[0].die()
        await quiet()
        assert not puppet.out


async def test_outputs_without_a_row_for_each_row_are_not_shared_out() -> None:
    async with Door(puppet := Puppet()) as door:
        requests = [door.ask(1), door.ask(2), door.ask(3)]
        await quiet()
        while puppet.out:
            (run,) = puppet.out
            run.finish_with(np.array(sum(value for part in run.values for value in part)))
            await quiet()
        assert [answer(request) for request in requests] == [[1], [2], [3]]


async def test_an_unexpected_error_ends_its_batch_and_not_the_batcher() -> None:
    async with Door(puppet := Puppet()) as door:
        first, second = door.ask(1), door.ask(2)
        await quiet()
        later = door.ask(3)
        error = RuntimeError("no slot")
        puppet.out[0].fail(error)
        await quiet()
        puppet.out[0].finish()
        await quiet()
        assert first.exception() is second.exception() is error
        assert answer(later) == [3]
        assert [report.outcome for report in door.reports] == [BatchOutcome.ERROR, BatchOutcome.ANSWERED]


async def test_too_few_outputs_end_the_batch() -> None:
    async with Door(puppet := Puppet()) as door:
        requests = [door.ask(1, outputs=("y", "z")), door.ask(2, outputs=("y", "z"))]
        await quiet()
        puppet.out[0].finish_with(column(1, 2))
        await quiet()
        assert [type(request.exception()) for request in requests] == [ValueError, ValueError]


async def test_an_executor_that_cancels_itself_leaves_nobody_waiting() -> None:
    async with Door(puppet := Puppet()) as door:
        request = door.ask(1)
        await quiet()
        other = door.ask(2)
        puppet.out[0].end.cancel()
        await quiet()
        assert isinstance(request.exception(), ModelNotReady)
        puppet.out[0].finish()
        await quiet()
        assert answer(other) == [2]


async def test_time_in_which_batches_die_counts_for_the_rate() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(1)
        await quiet()
        await pass_time(1)
        puppet.out[0].die()
        await quiet()
        await pass_time(1)
        puppet.out[0].finish()
        await quiet()
        assert door.batcher.statistics().rows_per_s == pytest.approx(1 / 1.9, rel=1e-3)
