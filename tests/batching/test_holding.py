"""Batches that are held back to grow: only while it pays, and never too long."""

from __future__ import annotations

from sluice.batching.curve import TAIL_DEFAULT
from sluice.batching.policy import Reason
from tests.batching.callers import KNOTS, OBJECTIVE_S, RUN_S, Tally, poisson
from tests.batching.fakes import Door, Engine, Puppet, heavy_traffic
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def test_at_low_load_nothing_is_held() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        tally = Tally()
        await poisson(20.0, 5.0, lambda: tally.ask(door))
        await pass_time(1.0)
    assert all(report.queue_s <= RUN_S(3) for report in door.reports)
    assert {report.reason for report in door.reports} <= {Reason.IDLE, Reason.NO_GAIN, Reason.AHEAD}
    assert tally.good == tally.asked


async def test_one_client_that_waits_for_each_answer_is_never_held() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        for _ in range(100):
            result = await door.ask(1)
            assert result.queue_s <= 1e-4
    assert {report.reason for report in door.reports} <= {Reason.IDLE, Reason.NO_GAIN}


async def test_under_heavy_traffic_batches_are_held_back_to_grow_and_still_in_time() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        tally = Tally()
        await poisson(1000.0, 2.0, lambda: tally.ask(door))
        await pass_time(1.0)
    assert tally.good >= 0.99 * tally.asked
    late_reports = door.reports[len(door.reports) // 2 :]
    assert sum(report.rows for report in late_reports) / len(late_reports) >= 8


async def test_a_batch_is_held_back_until_its_most_urgent_request_must_leave() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        asked_s, within_s = virtual_loop().time(), TAIL_DEFAULT * RUN_S(64) + 0.003
        door.ask(1, within_s=within_s)
        for _ in range(4):
            await pass_time(0.0005)
            door.ask(2)
            await quiet()
            assert not puppet.out
        while not puppet.out:
            await pass_time(0.0001)
        assert 0.0029 <= virtual_loop().time() - asked_s <= 0.0032
        puppet.out[0].finish()
        await quiet()
        assert door.reports[-1].reason is Reason.DEADLINE


async def test_a_hold_ends_when_no_more_comes() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        asked_s = virtual_loop().time()
        door.ask(1)
        await quiet()
        assert not puppet.out
        while not puppet.out:
            await pass_time(0.0001)
        assert virtual_loop().time() - asked_s <= OBJECTIVE_S / 4
        puppet.out[0].finish()


async def test_a_hold_ends_for_a_more_urgent_request_that_comes_meanwhile() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        door.ask(1)
        await quiet()
        assert not puppet.out
        asked_s, within_s = virtual_loop().time(), 1.01 * TAIL_DEFAULT * RUN_S(2)
        urgent = door.ask(2, within_s=within_s)
        while not puppet.out:
            await pass_time(0.0001)
        assert virtual_loop().time() - asked_s <= within_s - RUN_S(2)
        assert [2.0] in puppet.out[0].values
        await pass_time(RUN_S(2))
        puppet.out[0].finish()
        await quiet()
        assert not urgent.result().late


async def test_a_batch_that_has_grown_enough_is_held_no_longer() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        door.ask(1)
        await quiet()
        assert not puppet.out
        for _ in range(63):
            door.ask(1)
        await quiet()
        assert len(puppet.out[0].parts) == 64
        puppet.out[0].finish()
        await quiet()
        assert door.reports[-1].reason in {Reason.FULL, Reason.NO_GAIN}


async def test_without_an_objective_heavy_traffic_holds_nothing_back() -> None:
    async with Door(puppet := Puppet(), knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        door.ask(1, within_s=0.018)
        await quiet()
        puppet.out[0].finish()
        await quiet()
        assert door.reports[-1].reason is Reason.IDLE


async def test_nothing_is_held_while_another_key_waits() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await heavy_traffic(door, puppet)
        for key in "", "other":
            door.ask(1, key=key)
        await quiet()
        assert len(puppet.out) == 1
        puppet.out[0].finish()
        while not puppet.out:
            await pass_time(0.001)
        puppet.out[0].finish()
        await quiet()


async def test_a_batch_that_was_held_back_in_vain_leaves_in_time() -> None:
    """A burst ends, and what it leaves behind does not wait for more than may be waited for."""
    async with Door(puppet := Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        tally = Tally()
        await poisson(3000.0, 0.5, lambda: tally.ask(door))
        await pass_time(1.0)
        assert not puppet.out
        assert all(future.done() for future in tally.futures)
        assert len(tally.results) == tally.good
        assert door.batcher.statistics().queue.rows == 0
        assert virtual_loop().armed_timers() == 0


async def test_without_an_objective_nothing_waits_while_a_worker_is_idle() -> None:
    async with Door(puppet := Engine(RUN_S), knots=KNOTS) as door:
        idle_s: list[float] = []

        def ask() -> None:
            if not puppet.out and door.batcher.statistics().queue.rows:
                idle_s.append(virtual_loop().time())
            door.ask(1)

        await poisson(1500.0, 1.0, ask)
        await pass_time(1.0)
    assert not idle_s
    assert Reason.DEADLINE not in {report.reason for report in door.reports}
