"""Objectives that are tight for the engine, and predictions that are wrong: no cliff, and no refusing for ever."""

from __future__ import annotations

from contextlib import suppress

import pytest

from sluice.batching.curve import STALE_S
from sluice.inference.errors import DeadlineExceeded, Overloaded, RequestTooLarge
from tests.batching.callers import Tally, poisson
from tests.batching.fakes import Door, Engine, Puppet, answer, knots_of, linear
from tests.batching.virtual_time import pass_time, quiet, virtual_loop

OBJECTIVE_S = 0.05


@pytest.mark.parametrize("base_s", [0.0225, 0.0245, 0.026, 0.03])
async def test_an_engine_that_takes_half_of_the_objective_for_one_row_still_runs_full_batches(base_s: float) -> None:
    engine = linear(base_s, 0.00005)
    async with Door(Engine(engine), objective_s=OBJECTIVE_S, knots=knots_of(engine)) as door:
        tally = Tally()
        await poisson(400, 5.0, lambda: tally.ask(door))
    assert tally.good > 0.4 * tally.asked
    assert tally.good > 0.9 * len(tally.results)


async def test_a_curve_that_is_wrong_from_the_start_is_found_out_by_an_idle_worker() -> None:
    believed, engine = linear(0.06, 0.0), linear(0.02, 0.0)
    async with Door(Engine(engine), knots=knots_of(believed)) as door:
        answered = 0
        for _ in range(60):
            try:
                await door.ask(1, within_s=0.05)
                answered += 1
            except DeadlineExceeded:
                pass
            await pass_time(STALE_S / 4)
        assert answered > 30


async def test_one_hopeless_caller_does_not_change_what_was_learned() -> None:
    believed, engine = linear(0.005, 0.0), linear(0.05, 0.0)
    async with Door(Engine(engine), knots=knots_of(believed)) as door:
        for _ in range(30):
            await door.ask(1)
        (learned,) = [knots[0].run_s for knots in door.batcher.curves().values()]
        await pass_time(1.5 * STALE_S)
        probe = door.ask(1, within_s=0.001)
        await pass_time(1.0)
        assert isinstance(probe.exception(), DeadlineExceeded)
        (after,) = [knots[0].run_s for knots in door.batcher.curves().values()]
        assert after == pytest.approx(learned, rel=0.05)


async def test_a_slow_engine_is_learned_while_it_is_busy() -> None:
    """Every run takes longer than a curve stays fresh, so nothing confirms it while one is out."""
    believed, engine = linear(1.0, 0.0), linear(3.2, 0.0)
    async with Door(Engine(engine), objective_s=10.0, knots=knots_of(believed)) as door:
        for _ in range(600):
            with suppress(Overloaded):
                door.ask(1).add_done_callback(lambda future: future.exception())
            await pass_time(0.2)
        (p95_s,) = [knots[0].run_s for knots in door.batcher.curves().values()]
        assert p95_s > 3.0


async def test_what_could_never_enter_the_queue_is_not_put_on_standby() -> None:
    engine = linear(0.01, 0.0)
    async with Door(
        puppet := Puppet(), objective_s=0.02, knots=knots_of(engine), max_rows=8, max_queue_rows=4, drain_timeout_s=0
    ) as door:
        door.ask(1)
        await quiet()
        door.ask(2)
        with pytest.raises(RequestTooLarge):
            door.ask(*range(5))
        puppet.out[0].finish()
        await quiet()
        last = door.ask(3)
        await pass_time(0.01)  # it may be held back for a moment
        while puppet.out:
            puppet.out[0].finish()
            await quiet()
        assert answer(last) == [3]


async def test_a_callers_own_deadline_that_was_feasible_is_refused_as_overload() -> None:
    engine = linear(0.02, 0.0)
    async with Door(Puppet(), objective_s=0.05, knots=knots_of(engine), max_rows=1, drain_timeout_s=0) as door:
        futures = []
        for _ in range(10):
            futures.append(door.ask(1, within_s=0.045))
        await pass_time(0.01)
        refused = [future.exception() for future in futures if future.done()]
        assert refused
        assert {type(error) for error in refused} == {Overloaded}


async def test_nothing_is_kept_once_it_was_left() -> None:
    engine = linear(0.02, 0.0)
    async with Door(Puppet(), objective_s=0.05, knots=knots_of(engine), max_rows=1, drain_timeout_s=0) as door:
        for _ in range(10):
            door.ask(1).add_done_callback(lambda future: future.exception())
    assert virtual_loop().armed_timers() == 0
    assert door.batcher.statistics().queue.jobs == 0
