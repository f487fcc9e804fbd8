"""A model whose rows turned out to influence each other: from then on each request runs alone and whole."""

from __future__ import annotations

import pytest

from sluice.inference.errors import DeadlineExceeded
from sluice.inference.types import Cause
from tests.batching.fakes import Door, Puppet, answer, column, knots_of, linear
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def finish_all(puppet: Puppet) -> None:
    while puppet.out:
        puppet.out[0].finish()
        await quiet()


async def test_what_waits_runs_alone_in_its_order() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()
        requests = [door.ask(1), door.ask(2, 3), door.ask(4)]
        door.batcher.unbatch()
        await quiet()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs] == [[[0]], [[1]], [[2, 3]], [[4]]]
        assert [answer(request) for request in requests] == [[1], [2, 3], [4]]


async def test_what_is_out_in_company_is_answered_by_a_run_alone() -> None:
    async with Door(puppet := Puppet(workers=2)) as door:
        first, second = door.ask(1), door.ask(2, 3)
        await quiet()
        door.batcher.unbatch()
        puppet.runs[0].finish_with(column(100, 200, 300))
        await quiet()
        assert not first.done()
        assert not second.done()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs] == [[[1], [2, 3]], [[1]], [[2, 3]]]
        assert (answer(first), answer(second)) == ([1], [2, 3])


async def test_what_is_out_alone_and_whole_is_answered_as_it_is() -> None:
    async with Door(puppet := Puppet()) as door:
        request = door.ask(1, 2)
        await quiet()
        door.batcher.unbatch()
        await finish_all(puppet)
        assert len(puppet.runs) == 1
        assert answer(request) == [1, 2]


async def test_a_request_in_pieces_becomes_whole_wherever_its_pieces_are() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        large = door.ask(*range(7))
        await quiet()
        puppet.out[0].finish()
        await quiet()  # one piece is answered, one is out, two wait
        door.batcher.unbatch()
        puppet.out[0].finish_with(column(100, 200))
        await quiet()
        assert not large.done()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs][2:] == [[list(range(7))]]
        assert answer(large) == list(range(7))
        assert door.batcher.statistics().queue.rows == 0


async def test_later_requests_are_neither_cut_nor_put_together() -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        door.batcher.unbatch()
        requests = [door.ask(1), door.ask(2), door.ask(*range(5)), door.ask()]
        await quiet()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs] == [[[1]], [[2]], [list(range(5))], [[]]]
        assert [answer(request) for request in requests] == [[1], [2], list(range(5)), []]


async def test_a_batch_that_is_to_be_run_again_is_taken_apart() -> None:
    async with Door(puppet := Puppet()) as door:
        requests = [door.ask(1), door.ask(2)]
        await quiet()
        puppet.out[0].die(Cause.KILLED)
        puppet.workers.clear()
        await quiet()
        assert door.batcher.statistics().again_batches == 1
        door.batcher.unbatch()
        puppet.hire()
        door.batcher.wake()
        await quiet()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs] == [[[1], [2]], [[1]], [[2]]]
        assert [answer(request) for request in requests] == [[1], [2]]


async def test_a_batch_out_that_dies_or_fails_afterwards_harms_nobody() -> None:
    async with Door(puppet := Puppet(workers=2), max_rows=2) as door:
        requests = [door.ask(1), door.ask(2), door.ask(3), door.ask(4)]
        await quiet()
        door.batcher.unbatch()
        puppet.runs[0].die()
        puppet.runs[1].fail()
        await quiet()
        await finish_all(puppet)
        assert [answer(request) for request in requests] == [[1], [2], [3], [4]]
        assert sorted(run.values[0][0] for run in puppet.runs[2:]) == [1, 2, 3, 4]


async def test_a_client_that_has_gone_is_not_run_again_and_deadlines_stand() -> None:
    async with Door(puppet := Puppet()) as door:
        gone, late, stays = door.ask(1), door.ask(2, within_s=1), door.ask(3)
        await quiet()
        gone.cancel()
        door.batcher.unbatch()
        await pass_time(2)
        with pytest.raises(DeadlineExceeded):
            late.result()
        await finish_all(puppet)
        assert [run.values for run in puppet.runs[1:]] == [[[3]]]
        assert answer(stays) == [3]


async def test_nothing_is_held_back_to_grow_under_an_objective() -> None:
    run_s = linear(0.01, 0.0001)
    async with Door(puppet := Puppet(), objective_s=1.0, knots=knots_of(run_s)) as door:
        door.batcher.unbatch()
        door.ask(0)
        await quiet()
        for value in range(40):
            door.ask(value)
            await pass_time(1 / 3000)
        puppet.out[0].finish()
        await quiet()
        assert [run.rows for run in puppet.runs] == [1, 1]
        await finish_all(puppet)
        assert {len(run.parts) for run in puppet.runs} == {1}


async def test_it_may_be_said_twice_and_after_the_end() -> None:
    async with Door(puppet := Puppet()) as door:
        request = door.ask(1)
        door.batcher.unbatch()
        door.batcher.unbatch()
        await quiet()
        await finish_all(puppet)
        assert answer(request) == [1]
    door.batcher.unbatch()
    assert not virtual_loop().armed_timers()
