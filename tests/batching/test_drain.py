"""Leaving: what was accepted ends, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from sluice.inference.errors import DeadlineExceeded, ModelNotReady
from sluice.inference.types import Vacancy
from tests.batching.fakes import Door, Puppet, answer, heavy_traffic, knots_of, linear
from tests.batching.virtual_time import pass_time, quiet, virtual_loop

OBJECTIVE_S = 0.1
RUN_S = linear(0.008, 0.0005)
KNOTS = knots_of(RUN_S)


async def test_leaving_waits_for_everything_accepted() -> None:
    puppet = Puppet()
    door = await Door(puppet, max_rows=2).__aenter__()
    requests = [door.ask(value) for value in range(6)]
    large = door.ask(7, 8, 9)
    await quiet()
    leaving = asyncio.create_task(door.__aexit__(None, None, None))
    await quiet()
    with pytest.raises(ModelNotReady):
        door.ask(1)
    puppet.out[0].fail()
    await quiet()
    while puppet.out:
        assert not leaving.done()
        await pass_time(1)
        puppet.out[0].finish()
        await quiet()
    assert leaving.done()
    assert [answer(request) for request in requests] == [[0], [1], [2], [3], [4], [5]]
    assert answer(large) == [7, 8, 9]


async def test_leaving_is_bounded_and_leaves_nothing_behind() -> None:
    puppet = Puppet()
    async with Door(puppet, max_rows=2, drain_timeout_s=3) as door:
        running, waiting, large = door.ask(1, 1), door.ask(2, within_s=50), door.ask(3, 4, 5)
        await quiet()
        before_s = virtual_loop().time()
    assert virtual_loop().time() - before_s == pytest.approx(3, abs=0.001)
    for request in (running, waiting, large):
        assert isinstance(request.exception(), ModelNotReady)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert virtual_loop().armed_timers() == 0
    assert puppet.workers == [[]]
    now = door.batcher.statistics()
    assert (now.queue.jobs, now.running_batches, now.again_batches) == (0, 0, 0)


async def test_leaving_does_not_wait_for_who_has_gone() -> None:
    async with Door(Puppet(), drain_timeout_s=30) as door:
        running, waiting = door.ask(1), door.ask(2)
        await quiet()
        running.cancel()
        waiting.cancel()
        before_s = virtual_loop().time()
    assert virtual_loop().time() == before_s


async def test_deadlines_hold_while_leaving() -> None:
    async with Door(Puppet(workers=0)) as door:
        request = door.ask(1, within_s=2)
        before_s = virtual_loop().time()
    assert isinstance(request.exception(), DeadlineExceeded)
    assert virtual_loop().time() - before_s == pytest.approx(2, abs=0.001)


async def test_an_interrupted_leave_still_ends_everything() -> None:
    door = await Door(Puppet()).__aenter__()
    running, waiting = door.ask(1), door.ask(2)
    await quiet()
    leaving = asyncio.create_task(door.__aexit__(None, None, None))
    await quiet()
    leaving.cancel()
    await quiet()
    assert leaving.cancelled()
    assert isinstance(running.exception(), ModelNotReady)
    assert isinstance(waiting.exception(), ModelNotReady)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_in_the_turn_of_a_dispatch_loses_nobody() -> None:
    async with Door(Puppet(), drain_timeout_s=0) as door:
        request = door.ask(1)
    assert isinstance(request.exception(), ModelNotReady)


async def test_what_waits_to_be_run_again_ends_too() -> None:
    async with Door(puppet := Puppet(), drain_timeout_s=1) as door:
        request = door.ask(1)
        await quiet()
        puppet.out[0].die()
        puppet.workers.clear()
        await quiet()
        assert door.batcher.statistics().again_batches == 1
    assert isinstance(request.exception(), ModelNotReady)
    assert door.batcher.statistics().again_batches == 0


async def test_a_wake_after_leaving_asks_nothing_of_the_executor() -> None:
    class Closed(Puppet):
        def vacancy(self) -> Vacancy:
            raise AssertionError("the executor has been closed")

    async with Door(Closed()) as door:
        pass
    door.batcher.wake()
    await quiet()
    assert not virtual_loop().complaints


async def test_a_batch_that_is_held_back_leaves_in_time_and_so_does_the_house() -> None:
    puppet = Puppet()
    door = await Door(puppet, objective_s=OBJECTIVE_S, knots=KNOTS).__aenter__()
    await heavy_traffic(door, puppet)
    held = door.ask(1)
    await quiet()
    assert not puppet.out
    before_s = virtual_loop().time()
    leaving = asyncio.create_task(door.__aexit__(None, None, None))
    while not puppet.out:
        await pass_time(0.001)
    assert virtual_loop().time() - before_s <= OBJECTIVE_S - RUN_S(1)
    puppet.out[0].finish()
    await leaving
    assert answer(held) == [1]
    assert virtual_loop().armed_timers() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_in_the_middle_of_a_hold_leaves_no_timer() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS, drain_timeout_s=0) as door:
        await heavy_traffic(door, puppet)
        held = door.ask(1)
        await quiet()
        assert not puppet.out
        assert virtual_loop().armed_timers() == 2
    assert isinstance(held.exception(), ModelNotReady)
    assert virtual_loop().armed_timers() == 0
    await pass_time(1)
    assert not puppet.out
    assert not virtual_loop().complaints
