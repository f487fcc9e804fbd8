from __future__ import annotations

import asyncio

import pytest

from benchmarks.simulation.loop import virtual_loop


def test_time_jumps_to_the_next_timer_and_stands_still_otherwise() -> None:
    loop = virtual_loop()
    seen: list[tuple[str, float]] = []

    async def run() -> None:
        loop.call_later(3600.0, lambda: seen.append(("later", loop.time())))
        loop.call_at(1.0, lambda: seen.append(("sooner", loop.time())))
        await asyncio.sleep(7200.0)
        seen.append(("end", loop.time()))

    loop.run_until_complete(run())

    assert seen == [("sooner", 1.0), ("later", 3600.0), ("end", 7200.0)]


def test_callbacks_that_are_due_together_run_in_the_order_of_arming() -> None:
    loop = virtual_loop()
    seen: list[int] = []

    async def run() -> None:
        for number in range(5):
            loop.call_at(1.0, seen.append, number)
        await asyncio.sleep(1.0)

    loop.run_until_complete(run())

    assert seen == [0, 1, 2, 3, 4]


def test_a_cancelled_timer_neither_fires_nor_holds_time_up() -> None:
    loop = virtual_loop()
    seen: list[int] = []

    async def run() -> None:
        loop.call_at(1.0, seen.append, 1).cancel()
        await asyncio.sleep(2.0)

    loop.run_until_complete(run())

    assert not seen
    assert loop.time() == 2.0


def test_waiting_for_nothing_is_an_error_and_not_a_hang() -> None:
    loop = virtual_loop()

    async def run() -> None:
        await loop.create_future()

    with pytest.raises(RuntimeError, match="nothing is going to do"):
        loop.run_until_complete(run())


def test_a_delay_too_short_for_the_clock_still_moves_it() -> None:
    loop = virtual_loop()

    async def run() -> None:
        await asyncio.sleep(1e6)
        before_s = loop.time()
        loop.call_later(1e-18, lambda: None)
        await asyncio.sleep(1e-18)
        assert loop.time() > before_s

    loop.run_until_complete(run())


def test_errors_of_callbacks_are_kept() -> None:
    loop = virtual_loop()

    async def run() -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1.0)

    loop.run_until_complete(run())

    assert isinstance(loop.complaints[0]["exception"], ZeroDivisionError)
