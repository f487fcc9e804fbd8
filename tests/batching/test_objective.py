"""Batches that keep a promise: what is refused, dropped, put first, and counted as late."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from random import Random
from statistics import median

import pytest

from sluice.batching.admission import HOPELESS_RUNS
from sluice.batching.batcher import STUCK_RUNS, STUCK_S, SWEEP_SPACING_S
from sluice.batching.curve import SPEED_WINDOW, STALE_S, TAIL_DEFAULT
from sluice.batching.job import JobResult
from sluice.batching.policy import Reason
from sluice.inference.errors import DeadlineExceeded, Overloaded
from sluice.inference.types import Cause
from tests.batching.callers import AT_ONCE_S, KNOTS, OBJECTIVE_S, RUN_S, Tally, crowd, poisson
from tests.batching.fakes import Door, Engine, Puppet, answer, knots_of, linear
from tests.batching.virtual_time import pass_time, quiet, virtual_loop


async def test_what_would_be_late_is_refused_at_once_with_a_time_to_come_back() -> None:
    async with Door(Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS, drain_timeout_s=0) as door:
        refusals = await crowd(door)
        accepted = 1000 - len(refusals)
        assert 64 <= accepted <= 64 * OBJECTIVE_S / RUN_S(64)
        assert all(refusal.retry_after_s >= 1.0 for refusal in refusals)
        assert all(str(refusal).startswith("overloaded: the request ") for refusal in refusals)


async def test_retry_after_is_what_waits_over_the_measured_rate() -> None:
    rows_per_s = 10.0
    async with Door(Engine(linear(0.0, 1 / rows_per_s)), objective_s=6.0, max_rows=8, drain_timeout_s=0) as door:
        tally = Tally()
        for _ in range(200):
            tally.ask(door)
            await pass_time(0.05)
        waiting = door.batcher.statistics().queue.rows
        assert waiting > 2 * rows_per_s
        refusals = await crowd(door)
        assert refusals[-1].retry_after_s == pytest.approx(waiting / rows_per_s, rel=0.3)


async def test_a_deadline_that_was_never_feasible_is_said_to_be_so() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await door.ask(1)
        with pytest.raises(DeadlineExceeded, match=r"the deadline is 2 ms away, and the model takes \d+(\.\d+)? ms"):
            door.ask(1, within_s=0.002)
        assert not (await door.ask(1, within_s=0.05)).late


async def test_work_that_is_doomed_is_never_started() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        door.ask(0)
        await quiet()
        doomed = [door.ask(value) for value in (1, 2, 3)]
        await pass_time(OBJECTIVE_S - RUN_S(1) / 2)
        fresh = [door.ask(value) for value in (7, 8)] if not puppet.out[0].end.done() else []
        puppet.out[0].finish()
        await quiet()
        for future in doomed:
            with pytest.raises(Overloaded, match="could not be answered in time"):
                future.result()
        started = [value for run in puppet.runs for part in run.values for value in part]
        assert not {1, 2, 3} & set(started)
        assert all(not future.done() or future.exception() is None for future in fresh)
        while puppet.out:
            puppet.out[0].finish()
            await quiet()


async def test_who_waits_past_the_objective_ends_though_no_worker_is_free() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        first = door.ask(0)
        await quiet()
        waiting, with_deadline = door.ask(1), door.ask(2, within_s=OBJECTIVE_S / 2)
        await pass_time(OBJECTIVE_S + SWEEP_SPACING_S)
        assert isinstance(waiting.exception(), Overloaded)
        assert isinstance(with_deadline.exception(), DeadlineExceeded)
        assert not first.done()
        puppet.out[0].finish()
        await quiet()
        assert first.result().late


@pytest.mark.parametrize(("after_s", "late"), [(0.9 * OBJECTIVE_S, False), (1.1 * OBJECTIVE_S, True)])
@pytest.mark.parametrize("neighbours", [0, 2])
async def test_a_late_answer_says_that_it_is_late(after_s: float, late: bool, neighbours: int) -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        requests = [door.ask(1) for _ in range(1 + neighbours)]
        await quiet()
        await pass_time(after_s)
        puppet.out[0].finish()
        await quiet()
        assert [request.result().late for request in requests] == [late] * len(requests)


async def test_an_objective_shorter_than_the_run_is_served_late_and_not_refused_for_ever() -> None:
    slow = linear(0.1, 0.0)
    async with Door(Engine(slow), objective_s=0.01, knots=knots_of(slow)) as door:
        for _ in range(30):
            assert (await door.ask(1)).late
            await pass_time(0.05)


async def test_an_impossible_objective_is_served_within_a_few_runs_and_refused_beyond() -> None:
    slow = linear(0.1, 0.0)
    async with Door(Engine(slow), objective_s=0.01, knots=knots_of(slow), max_rows=1) as door:
        tally = Tally()
        for _ in range(100):
            tally.ask(door)
            await pass_time(0.01)
        await pass_time(2.0)
        assert tally.refused
        waits_s = [result.queue_s + result.compute_s for result in tally.results]
        assert len(waits_s) >= 8
        assert max(waits_s) <= HOPELESS_RUNS * TAIL_DEFAULT * slow(1) + SWEEP_SPACING_S


async def test_the_engine_is_found_to_be_fast_again_after_everything_was_refused() -> None:
    """Without traffic nothing corrects a prediction, so one that nobody has confirmed refuses no feasible deadline."""
    slowness = 20.0
    engine = Engine(lambda rows: slowness * RUN_S(rows))
    async with Door(engine, knots=KNOTS) as door:
        for _ in range(50):
            await door.ask(1)
        slowness = 1.0
        with pytest.raises(DeadlineExceeded):
            door.ask(1, within_s=0.05)
        await pass_time(1.01 * STALE_S)
        result = await door.ask(1, within_s=0.05)
        assert not result.late
        for _ in range(SPEED_WINDOW):
            await pass_time(1.01 * STALE_S)
            await door.ask(1, within_s=0.05)
        assert not (await door.ask(1, within_s=0.05)).late


async def test_what_was_never_feasible_stays_so_however_long_nothing_ran() -> None:
    async with Door(Engine(RUN_S), knots=KNOTS) as door:
        await door.ask(1)
        await pass_time(2 * STALE_S)
        probe = door.ask(1, within_s=0.5 * RUN_S(1))
        for _ in range(5):
            with pytest.raises(DeadlineExceeded):
                door.ask(1, within_s=0.5 * RUN_S(1))
        await pass_time(STALE_S)
        assert isinstance(probe.exception(), DeadlineExceeded) or probe.result().late


async def test_a_stale_prediction_still_refuses_a_request_behind_a_running_one() -> None:
    async with Door(puppet := Puppet(), knots=KNOTS) as door:
        door.ask(1)
        await quiet()
        await pass_time(0.5 * RUN_S(1))
        with pytest.raises(Overloaded):
            door.ask(1, within_s=1.2 * RUN_S(1))
        puppet.out[0].finish()


async def test_a_higher_priority_overtakes() -> None:
    async with Door(puppet := Puppet(), objective_s=10.0, knots=KNOTS, max_rows=2) as door:
        door.ask(0)
        await quiet()
        for value in (1, 2, 3):
            door.ask(value, priority=5)
        for value in (7, 8):
            door.ask(value, priority=1)
        order: list[float] = []
        while puppet.out:
            order += [value for part in puppet.out[0].values for value in part]
            puppet.out[0].finish()
            await pass_time(0.01)
        assert order == [0, 7, 8, 1, 2, 3]


async def test_the_earliest_deadline_goes_first_whoever_came_first() -> None:
    async with Door(puppet := Puppet(), objective_s=10.0, knots=KNOTS, max_rows=1) as door:
        door.ask(0)
        await quiet()
        for value, within_s in (1, 8.0), (2, math.inf), (3, 2.0), (4, 5.0):
            door.ask(value, within_s=within_s)
        order: list[float] = []
        while puppet.out:
            order += puppet.out[0].values[0]
            puppet.out[0].finish()
            await pass_time(0.01)
        assert order == [0, 3, 4, 1, 2]


async def test_a_flood_of_one_client_does_not_starve_another() -> None:
    capacity = 64 / RUN_S(64)
    async with Door(Engine(RUN_S, depth=2), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        flood, polite = Tally(), Tally()
        await asyncio.gather(
            poisson(3 * capacity, 2.0, lambda: flood.ask(door, client="flood"), seed=1),
            poisson(0.1 * capacity, 2.0, lambda: polite.ask(door, client="polite"), seed=2),
        )
        await pass_time(1.0)
    assert flood.refused + flood.dropped > len(flood.results)
    assert polite.good >= 0.9 * polite.asked


async def test_under_overload_most_of_the_capacity_is_answers_in_time() -> None:
    async with Door(Engine(RUN_S, depth=2), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        tally = Tally()
        capacity = 64 / RUN_S(64)
        await poisson(2 * capacity, 3.0, lambda: tally.ask(door))
        await pass_time(1.0)
        full = max(report.rows for report in door.reports)
        assert tally.good >= 0.9 * 3.0 * full / RUN_S(full)
        assert tally.good >= 0.98 * len(tally.results)
        assert tally.refused > tally.dropped
        assert median(tally.refusals_s) <= AT_ONCE_S


async def test_no_batch_runs_for_longer_than_half_the_objective_but_for_chance() -> None:
    steep = linear(0.001, 0.002)
    async with Door(Engine(steep), objective_s=OBJECTIVE_S, knots=knots_of(steep)) as door:
        tally = Tally()
        await poisson(2000.0, 1.0, lambda: tally.ask(door))
        await pass_time(1.0)
    assert max(report.run_s for report in door.reports) <= 0.5 * OBJECTIVE_S * 1.01
    assert max(report.predicted_s for report in door.reports) <= 0.5 * OBJECTIVE_S * 1.01
    assert any(report.reason is Reason.FULL for report in door.reports)


async def test_a_batch_counts_as_stuck_only_once_enough_is_known_of_its_like() -> None:
    async with Door(engine := Engine(RUN_S), knots=KNOTS) as door:
        for _ in range(SPEED_WINDOW + 1):
            await door.ask(1)
    limits = [run.limit_s for run in engine.runs]
    assert limits[:SPEED_WINDOW] == [math.inf] * SPEED_WINDOW
    assert limits[SPEED_WINDOW] == STUCK_S


async def test_a_slow_batch_may_take_a_generous_multiple_of_what_was_predicted() -> None:
    slow = linear(1.0, 0.0)
    async with Door(engine := Engine(slow), knots=knots_of(slow)) as door:
        for _ in range(SPEED_WINDOW + 1):
            await door.ask(1)
    predicted_s = door.reports[SPEED_WINDOW].predicted_s
    assert predicted_s >= 1.0
    assert engine.runs[SPEED_WINDOW].limit_s == pytest.approx(STUCK_RUNS * predicted_s)


async def test_reports_say_what_was_predicted_and_what_it_took() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        await door.ask(1, 2, 3)
    (report,) = door.reports
    assert report.run_s == pytest.approx(RUN_S(3), abs=1e-5)
    assert RUN_S(3) <= report.predicted_s <= 2 * RUN_S(3)
    assert report.queue_s <= 1e-5


async def test_without_measurements_nothing_was_predicted_for_the_first_batch() -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S) as door:
        for _ in range(2):
            await door.ask(1)
    assert door.reports[0].predicted_s == 0.0
    assert door.reports[1].predicted_s > 0.0
    (curve,) = door.batcher.curves().values()
    assert curve[0].run_s >= RUN_S(1)


@pytest.mark.parametrize("running", [True, False])
async def test_what_was_accepted_is_answered_late_rather_than_dropped_when_its_worker_dies(running: bool) -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        requests = [door.ask(value) for value in (1, 2)]
        await quiet()
        await pass_time(2 * OBJECTIVE_S)
        puppet.out[0].die(Cause.KILLED, running=running)
        await pass_time(2 * SWEEP_SPACING_S)
        puppet.out[0].finish()
        await quiet()
        assert [answer(request) for request in requests] == [[1], [2]]
        assert all(request.result().late for request in requests)


async def test_a_failed_batch_is_bisected_past_the_objective_too() -> None:
    async with Door(puppet := Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        requests = [door.ask(value) for value in range(8)]
        await quiet()
        while puppet.out:
            await pass_time(OBJECTIVE_S)
            run = puppet.out[0]
            if [3.0] in run.values:
                run.fail()
            else:
                run.finish()
            await quiet()
        assert [request.exception() is None for request in requests] == [value != 3 for value in range(8)]


async def test_a_deadline_ends_a_request_that_is_out_and_its_batch_runs_on() -> None:
    puppet = Puppet()
    async with Door(puppet) as door:
        hurried, patient = door.ask(1, within_s=2), door.ask(2)
        await pass_time(2 + SWEEP_SPACING_S)
        with pytest.raises(DeadlineExceeded):
            hurried.result()
        puppet.runs[0].finish()
        await quiet()
        assert answer(patient) == [2.0]


async def test_the_delivery_is_planned_for_but_is_not_taken_from_a_callers_own_time() -> None:
    async with Door(Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS, delivery_s=OBJECTIVE_S, drain_timeout_s=0) as door:
        hurried = door.ask(1, within_s=1.2 * TAIL_DEFAULT * RUN_S(1))
        await quiet()
        assert not hurried.done()
    refused = {}
    for delivery_s in (0.0, OBJECTIVE_S):
        async with Door(
            Puppet(), objective_s=OBJECTIVE_S, knots=KNOTS, delivery_s=delivery_s, drain_timeout_s=0
        ) as door:
            refused[delivery_s] = len(await crowd(door))
    assert refused[OBJECTIVE_S] > refused[0.0]


async def test_a_large_request_is_served_at_light_load_though_its_run_takes_nearly_all_of_the_objective() -> None:
    """Cut into pieces: the engine is now and then slower than predicted, and what has begun is not thrown away."""
    slowness = 1.0
    engine = Engine(lambda rows: slowness * RUN_S(rows), depth=2)
    rows = 128 if 2 * RUN_S(64) < OBJECTIVE_S else 64
    async with Door(engine, objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        for _ in range(20):
            slowness = 1.0 if slowness > 1.0 else 1.4
            result = await door.ask(*range(rows))
            assert answer_rows(result) == rows
            await pass_time(OBJECTIVE_S)


@pytest.mark.parametrize("pieces", [3, 8])
async def test_what_could_never_be_in_time_is_served_whole_at_light_load(pieces: int) -> None:
    async with Door(Engine(RUN_S, depth=2), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        for _ in range(21):
            result = await door.ask(*range(64 * pieces))
            assert answer_rows(result) == 64 * pieces
            await pass_time(0.5)


def answer_rows(result: JobResult) -> int:
    return len(result.outputs[0])


@pytest.mark.parametrize("seed", range(6))
async def test_every_refusal_comes_within_the_objective_and_a_sweep(seed: int) -> None:
    """Small and large requests in bursts, on an engine whose speed nobody can foretell."""
    random, slowness = Random(seed), 1.0
    engine = Engine(lambda rows: slowness * random.uniform(0.5, 4.0) * RUN_S(rows), depth=2)
    told_s: list[float] = []
    answered = 0
    async with Door(engine, objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        loop = virtual_loop()

        def ask(rows: int) -> None:
            nonlocal answered
            asked_s = loop.time()

            def end(future: asyncio.Future[JobResult]) -> None:
                nonlocal answered
                if future.exception() is None:
                    answered += 1
                else:
                    told_s.append(loop.time() - asked_s)

            try:
                door.ask(*range(rows)).add_done_callback(end)
            except Overloaded:
                told_s.append(0.0)

        for _ in range(60):
            slowness = random.choice([0.2, 1.0, 1.0, 8.0])
            for _ in range(random.choice([1, 2, 40])):
                ask(random.choice([1, 1, 1, 16, 64, 200, 512]))
            await pass_time(random.expovariate(1 / (2 * OBJECTIVE_S)))
    assert answered
    assert told_s
    assert max(told_s) <= OBJECTIVE_S + SWEEP_SPACING_S + 1e-5


async def test_a_curve_that_refuses_everybody_is_found_to_be_wrong_in_a_moment_where_many_come() -> None:
    slowness = 30.0
    async with Door(Engine(lambda rows: slowness * RUN_S(rows)), knots=KNOTS) as door:
        for _ in range(20):
            await door.ask(1)
        slowness = 1.0
        tally = Tally()

        def ask() -> None:
            with suppress(DeadlineExceeded):
                tally.ask(door, within_s=OBJECTIVE_S)

        await poisson(1000.0, 1.0, ask)
        before = len(tally.results)
        await poisson(1000.0, 1.0, ask)
        await pass_time(1.0)
    assert len(tally.results) - before >= 900


async def test_probes_of_a_curve_that_is_right_are_few() -> None:
    """Each is an answer that is late, where nobody would have been let in."""
    slow = linear(0.02, 0.0)
    async with Door(engine := Engine(slow), knots=knots_of(slow)) as door:
        for _ in range(20):
            await door.ask(1)
        ran = len(engine.runs)
        tally = Tally()
        refused = 0

        def ask() -> None:
            nonlocal refused
            try:
                tally.ask(door, within_s=0.01)
            except DeadlineExceeded:
                refused += 1

        await poisson(2000.0, 2.0, ask)
        await pass_time(0.1)
    assert refused > 3000
    assert len(engine.runs) - ran <= 0.015 * refused + 1


@pytest.mark.parametrize("age_s", [0.0, 0.5 * OBJECTIVE_S, 2 * OBJECTIVE_S])
async def test_the_promise_counts_from_when_a_request_came_and_who_is_let_in_too_late_is_answered(age_s: float) -> None:
    async with Door(Engine(RUN_S), objective_s=OBJECTIVE_S, knots=KNOTS) as door:
        result = await door.ask(1, came_s=virtual_loop().time() - age_s)
    assert result.late is (age_s + RUN_S(1) > OBJECTIVE_S)
