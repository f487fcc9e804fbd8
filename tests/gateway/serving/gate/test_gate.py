"""Which calls are let in, which wait, and when the others are refused, in virtual time."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import pytest

from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.serving.gate import LATEST_PART, LOOK_S, Gate, GateRefusal
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.inference.types import InferenceResponse, Timings
from tests.batching.virtual_time import pass_time, quiet, virtual_loop

OBJECTIVE_S = 0.05
DIALECT = V2()
RESPONSE = InferenceResponse("m", 1, (), timings=Timings(batch_rows=1))


class PuppetBatcher:
    """Has as much room as the test says, and an allowance that records what it is told."""

    def __init__(self) -> None:
        self.free = math.inf
        self.least = True
        self.lag_s = 0.0
        self.took_s = 0.0
        self.moved_s = -math.inf
        self.told: list[tuple[float, float, float, float]] = []
        self.allowance = self

    def full(self) -> bool:
        return self.free <= 0

    def room(self) -> float:
        return self.free

    def has_least(self) -> bool:
        return self.least

    def retry_after_s(self) -> float:
        return 2.4

    def answered(self, *told: float) -> None:
        self.told.append(cast(Any, told))


class Calls:
    """A gate, and the calls that wait at it."""

    def __init__(self, sharing: RowSharing | None = None) -> None:
        self.batcher = PuppetBatcher()
        clock = virtual_loop().time
        self.worked_s = 0.0
        self.gate = Gate(cast(Any, self.batcher), sharing or RowSharing(), OBJECTIVE_S, clock, lambda: self.worked_s)
        self.clock = clock

    def come(self, age_s: float = 0.0) -> asyncio.Task[GateRefusal | None]:
        now_s = self.clock()
        return asyncio.create_task(self.gate.wait(DIALECT, now_s - age_s, now_s))

    def answer(self, response: InferenceResponse = RESPONSE) -> None:
        self.gate.answered(self.clock(), self.clock(), response)


async def test_it_is_open_while_there_is_room() -> None:
    calls = Calls()
    assert calls.gate.open(calls.clock(), calls.clock())
    calls.batcher.free = 0
    assert not calls.gate.open(calls.clock(), calls.clock())


async def test_what_is_too_old_when_it_is_read_may_not_come_in_unless_there_is_nothing_to_learn_from() -> None:
    calls = Calls()
    now_s = calls.clock()
    old_s = now_s - LATEST_PART * OBJECTIVE_S - 0.001
    assert not calls.gate.open(old_s, now_s)
    calls.batcher.least = False
    assert calls.gate.open(old_s, now_s)


async def test_nobody_overtakes_those_who_wait() -> None:
    calls = Calls()
    calls.batcher.free = 0
    first, second = calls.come(), calls.come()
    await quiet()
    assert not calls.gate.open(calls.clock(), calls.clock())
    calls.batcher.free = 1
    calls.answer()
    await quiet()
    assert (first.done(), second.done()) == (True, False)
    assert first.result() is None
    calls.answer()
    assert await second is None


async def test_who_would_be_late_is_told_when_the_objective_is_over() -> None:
    calls = Calls()
    calls.batcher.free, calls.batcher.took_s = 0, 0.01
    came_s = calls.clock()
    call = calls.come()
    await pass_time(LATEST_PART * OBJECTIVE_S)
    calls.batcher.free = 10
    calls.answer()
    assert not call.done()
    refusal = await call
    assert refusal is not None
    assert OBJECTIVE_S - 1e-6 <= calls.clock() - came_s <= OBJECTIVE_S + 2 * LOOK_S
    assert refusal.answer.status == 503
    assert dict(refusal.answer.headers)[b"retry-after"] == b"3"


async def test_room_that_nobody_tells_of_is_found() -> None:
    """Batches may end without an answer."""
    calls = Calls()
    calls.batcher.free = 0
    call = calls.come()
    await quiet()
    calls.batcher.free = 1
    await pass_time(LOOK_S)
    assert await call is None


async def test_a_caller_who_has_gone_takes_nobodys_place() -> None:
    calls = Calls()
    calls.batcher.free = 0
    gone, waits = calls.come(), calls.come()
    await quiet()
    gone.cancel()
    await quiet()
    calls.batcher.free = 1
    calls.answer()
    assert await waits is None


async def test_all_are_told_in_the_end_and_no_timer_is_left() -> None:
    calls = Calls()
    calls.batcher.free = 0
    waiting = [calls.come() for _ in range(500)]
    refusals = await asyncio.gather(*waiting)
    assert all(refusal is not None for refusal in refusals)
    assert len({id(refusal) for refusal in refusals}) == 1, "what callers are told is made once"
    await pass_time(2 * LOOK_S)
    assert virtual_loop().armed_timers() == 0


@pytest.mark.parametrize("share", [1.0, 0.25])
async def test_the_gateways_own_time_is_what_neither_queue_nor_engine_took_and_it_has_worked_in(share: float) -> None:
    calls = Calls()
    calls.batcher.lag_s = 0.003
    now_s = calls.batcher.moved_s = calls.clock()
    calls.worked_s = share * 0.035
    timings = Timings(queue_s=0.010, batch_s=0.020, compute_s=0.015, batch_rows=4)
    calls.gate.answered(now_s, now_s + 0.035, InferenceResponse("m", 1, (), timings=timings))
    ((began_s, took_s, own_s, _),) = calls.batcher.told
    assert began_s == now_s
    assert round(took_s, 9) == 0.035
    assert own_s == pytest.approx(share * 0.008)


async def test_what_the_cache_answered_says_nothing_of_the_engine() -> None:
    calls = Calls()
    calls.answer(InferenceResponse("m", 1, (), timings=Timings()))
    assert not calls.batcher.told


class AskedCache:
    """A cache in which all rows are looked up, or only a sample."""

    def __init__(self, *, pays: bool) -> None:
        self.pays = pays


async def test_a_cache_that_pays_is_asked_before_anybody_is_turned_away() -> None:
    for pays in (True, False):
        calls = Calls(RowSharing(cache=cast(Any, AskedCache(pays=pays))))
        calls.batcher.free = 0
        assert calls.gate.open(calls.clock(), calls.clock()) is pays
