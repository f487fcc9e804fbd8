"""Nobody waits past a deadline, worker or not."""

from __future__ import annotations

import pytest

from sluice.batching.batcher import SWEEP_SPACING_S
from sluice.inference.errors import DeadlineExceeded
from sluice.inference.types import Cause
from tests.batching.fakes import Door, Puppet, answer
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def test_a_deadline_ends_a_request_though_no_worker_is_ever_free() -> None:
    async with Door(Puppet(workers=0)) as door:
        request = door.ask(1, within_s=2)
        await pass_time(2 - 0.001)
        assert not request.done()
        await pass_time(SWEEP_SPACING_S)
        with pytest.raises(DeadlineExceeded, match=r"the deadline could not be kept: the request had waited 2\.0"):
            request.result()
        assert door.batcher.statistics().queue.rows == 0


async def test_requests_end_in_the_order_of_their_deadlines() -> None:
    async with Door(Puppet(workers=0)) as door:
        late, early, middle = door.ask(1, within_s=9), door.ask(2, within_s=3), door.ask(3, within_s=6, key="other")
        for request, others in (early, [middle, late]), (middle, [late]), (late, []):
            await pass_time(3)
            await pass_time(SWEEP_SPACING_S)
            assert isinstance(request.exception(), DeadlineExceeded)
            assert not any(other.done() for other in others)


async def test_a_crowd_of_deadlines_has_one_timer() -> None:
    async with Door(Puppet(workers=0)) as door:
        requests = [door.ask(1, within_s=10 - value / 100) for value in range(500)]
        await quiet()
        assert virtual_loop().armed_timers() == 1
        await pass_time(10 + SWEEP_SPACING_S)
        assert all(isinstance(request.exception(), DeadlineExceeded) for request in requests)


async def test_no_timer_is_armed_once_nothing_waits() -> None:
    async with Door(puppet := Puppet()) as door:
        request = door.ask(1, within_s=1)
        await quiet()
        await pass_time(5)
        assert isinstance(request.exception(), DeadlineExceeded)
        assert virtual_loop().armed_timers() == 0
        puppet.out[0].finish()


async def test_no_deadline_needs_no_timer() -> None:
    async with Door(Puppet(workers=0), drain_timeout_s=0) as door:
        door.ask(1)
        await quiet()
        assert virtual_loop().armed_timers() == 0


async def test_who_is_late_is_not_taken_and_ends_at_once() -> None:
    async with Door(puppet := Puppet()) as door:
        door.ask(0)
        await quiet()
        late, in_time = door.ask(1, within_s=0.004), door.ask(2, within_s=5)
        await pass_time(0.005)
        puppet.out[0].finish()
        await quiet()
        assert isinstance(late.exception(), DeadlineExceeded)
        assert puppet.out[0].values == [[2]]
        puppet.out[0].finish()
        await quiet()
        assert answer(in_time) == [2]


@pytest.mark.parametrize("free", [True, False])
async def test_the_deadline_holds_for_what_waits_to_be_run_again(free: bool) -> None:
    async with Door(puppet := Puppet(), max_rows=2) as door:
        late, other = door.ask(1, within_s=1), door.ask(2)
        await quiet()
        await pass_time(0.99)
        assert not late.done()
        puppet.out[0].die(Cause.KILLED)
        if not free:
            puppet.workers.clear()
        await pass_time(SWEEP_SPACING_S * 1.5)
        assert isinstance(late.exception(), DeadlineExceeded)
        if not free:
            puppet.hire()
            door.batcher.wake()
            await quiet()
        assert puppet.out[0].values == ([[1], [2]] if free else [[2]])
        puppet.out[0].finish()
        await quiet()
        assert answer(other) == [2]


@pytest.mark.parametrize("within_s", [0, -1, -float("inf")])
async def test_a_deadline_that_has_passed_is_refused(within_s: float) -> None:
    async with Door(Puppet()) as door:
        with pytest.raises(DeadlineExceeded, match="before the request came"):
            door.ask(1, within_s=within_s)
