"""Who goes on, and when, while large requests are gone through."""

from __future__ import annotations

import asyncio
import math

import pytest

from sluice.cache.turns import STEP_BYTES, STEP_ROWS, Turns, steps
from sluice.inference.errors import DeadlineExceeded


async def test_one_of_all_goes_on_in_each_turn_of_the_loop() -> None:
    """However many large requests there are, others wait for one step at a time."""
    turns, loop_turns = Turns(), 0
    went_on: list[int] = []

    async def large() -> None:
        for _ in range(5):
            await turns.next(math.inf)
            went_on.append(loop_turns)

    async def beside() -> None:
        nonlocal loop_turns
        while True:
            loop_turns += 1
            await asyncio.sleep(0)

    neighbour = asyncio.ensure_future(beside())
    await asyncio.gather(*[large() for _ in range(20)])
    neighbour.cancel()
    assert len(went_on) == 100
    assert max([went_on.count(turn) for turn in went_on]) == 1


async def test_first_come_first_served() -> None:
    turns = Turns()
    order: list[int] = []

    async def large(number: int) -> None:
        for _ in range(3):
            await turns.next(math.inf)
            order.append(number)

    await asyncio.gather(large(1), large(2))
    assert order == [1, 2, 1, 2, 1, 2]


async def test_one_that_was_cancelled_keeps_nobody() -> None:
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.next(math.inf)) for _ in range(10)]
    await asyncio.sleep(0)
    for each in waiting[:-1]:
        each.cancel()
    async with asyncio.timeout(10):
        await waiting[-1]
        await turns.next(math.inf)


async def test_the_deadline_is_looked_at() -> None:
    now_s = 1.0
    turns = Turns(lambda: now_s)
    await turns.next(1.5)
    now_s = 1.5
    with pytest.raises(DeadlineExceeded):
        await turns.next(1.5)


def test_steps_are_bounded_in_rows_in_bytes_and_in_arrays() -> None:
    assert list(steps(2 * STEP_ROWS, 0)) == [(0, STEP_ROWS), (STEP_ROWS, 2 * STEP_ROWS)]
    assert len(list(steps(STEP_ROWS, 16 * STEP_BYTES))) == 16
    assert len(list(steps(STEP_ROWS, 0, 8))) == 8
    assert list(steps(3, 100 * STEP_BYTES)) == [(0, 1), (1, 2), (2, 3)]
    assert list(steps(1, 0, 10_000)) == [(0, 1)]
    assert list(steps(0, 0)) == []


async def test_nothing_is_waited_for_past_the_deadline() -> None:
    turns = Turns()
    with pytest.raises(DeadlineExceeded):
        async with turns.before(0.0):
            await asyncio.Event().wait()
    async with turns.before(math.inf):
        await turns.next(math.inf)
