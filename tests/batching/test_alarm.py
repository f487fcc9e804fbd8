from __future__ import annotations

import math

import pytest

from sluice.batching.alarm import Alarm
from tests.batching.virtual_time import pass_time, virtual_loop


class Bell:
    def __init__(self) -> None:
        self.rung_s: list[float] = []

    def ring(self) -> None:
        self.rung_s.append(virtual_loop().time())


async def test_it_rings_once_at_the_earliest_time() -> None:
    bell, now_s = Bell(), virtual_loop().time()
    alarm = Alarm(virtual_loop(), bell.ring)
    for delay_s in (5, 2, 3, math.inf):
        alarm.set(now_s + delay_s, now_s)
    assert alarm.at_s == now_s + 2
    assert virtual_loop().armed_timers() == 1
    await pass_time(10)
    assert bell.rung_s == [pytest.approx(now_s + 2)]
    assert (alarm.at_s, virtual_loop().armed_timers()) == (math.inf, 0)


async def test_it_may_be_set_anew_when_it_rings() -> None:
    bell = Bell()

    def ring() -> None:
        bell.ring()
        if len(bell.rung_s) < 3:
            alarm.set(virtual_loop().time() + 1, virtual_loop().time())

    alarm, now_s = Alarm(virtual_loop(), ring), virtual_loop().time()
    alarm.set(now_s + 1, now_s)
    await pass_time(10)
    assert bell.rung_s == [pytest.approx(now_s + after_s) for after_s in (1, 2, 3)]


@pytest.mark.parametrize("delay_s", [0.0, -5.0, 1e-18])
async def test_a_time_that_is_past_rings_at_once_and_only_once(delay_s: float) -> None:
    bell, now_s = Bell(), virtual_loop().time()
    Alarm(virtual_loop(), bell.ring).set(now_s + delay_s, now_s)
    await pass_time(1)
    assert bell.rung_s == [pytest.approx(now_s, abs=1e-5)]


async def test_a_cancelled_alarm_does_not_ring_and_may_be_set_again() -> None:
    bell, now_s = Bell(), virtual_loop().time()
    alarm = Alarm(virtual_loop(), bell.ring)
    alarm.set(now_s + 1, now_s)
    alarm.cancel()
    alarm.cancel()
    assert virtual_loop().armed_timers() == 0
    alarm.set(now_s + 3, now_s)
    await pass_time(10)
    assert bell.rung_s == [pytest.approx(now_s + 3)]


async def test_never_needs_no_timer() -> None:
    Alarm(virtual_loop(), Bell().ring).set(math.inf, virtual_loop().time())
    assert virtual_loop().armed_timers() == 0
