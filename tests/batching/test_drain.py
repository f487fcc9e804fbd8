"""Leaving: what was accepted ends, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from inference.errors import DeadlineExceeded, ModelNotReady
from inference.types import Vacancy
from tests.batching.fakes import Door, Puppet, answer
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


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
