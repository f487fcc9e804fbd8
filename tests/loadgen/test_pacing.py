"""The load generator sends when requests are due, and counts latency from then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sluice.loadgen.arrivals import Steady, times
from sluice.loadgen.figures import Figures, Spread
from sluice.loadgen.pacing import SPACING_S, SPARE
from tests.loadgen.virtual import OBJECTIVE_S, PERIOD_S, STALL_S, TIMEOUT_S, World, stalling


def ok(seen: Figures) -> Spread:
    assert seen.ok is not None
    return seen.ok


def lag(seen: Figures) -> Spread:
    assert seen.lag is not None
    return seen.lag


@pytest.mark.parametrize("connections", [1, 4, 200])
def test_the_stalls_of_a_server_are_seen_whole_however_many_connections_there_are(connections: int) -> None:
    # 200 requests/s: 4 of 15 meet a stall, and wait between 0 and 400 ms, evenly.
    seen = World(stalling).open_loop(times(Steady(200), 20 * PERIOD_S, seed=0), connections)

    assert seen.counts.statuses == {200: 6000}
    assert ok(seen).mean_ms == pytest.approx(STALL_S**2 / 2 / PERIOD_S * 1e3, abs=2)  # 53 ms
    assert ok(seen).p50_ms == pytest.approx(0, abs=1)
    assert ok(seen).p90_ms == pytest.approx(250, abs=5)
    assert ok(seen).p99_ms == pytest.approx(385, abs=5)
    assert ok(seen).max_ms == pytest.approx(400, abs=1)


def test_a_closed_loop_does_not_see_them_which_is_why_there_is_an_open_one() -> None:
    def answers(sent_s: float) -> tuple[float, int]:
        return max(sent_s + 0.005, stalling(sent_s)[0]), 200

    seen = World(answers).closed_loop(20 * PERIOD_S, connections=1)

    assert ok(seen).p99_ms == pytest.approx(5, abs=0.1)


def test_goodput_counts_what_came_within_the_objective() -> None:
    def answers(sent_s: float) -> tuple[float, int]:
        return sent_s + (OBJECTIVE_S * 0.9 if sent_s < 6 else OBJECTIVE_S * 1.1), 200

    seen = World(answers).open_loop(times(Steady(100), 9.5, seed=0), connections=50)

    assert seen.goodput_per_s == pytest.approx(60, abs=0.5)
    assert seen.ok_per_s == seen.answered_per_s == pytest.approx(95, abs=0.5)
    assert seen.good_share == pytest.approx(600 / 950, abs=0.002)


def test_refusals_have_figures_of_their_own() -> None:
    def answers(sent_s: float) -> tuple[float, int]:
        return (sent_s + 0.001, 503) if round(sent_s * 100) % 4 == 0 else (sent_s + 0.03, 200)

    seen = World(answers).open_loop(times(Steady(100), 10, seed=0), connections=50)

    assert seen.counts.statuses == {200: 750, 503: 250}
    assert seen.counts.astray == 0
    assert seen.refused_share == pytest.approx(0.25)
    assert seen.answered_per_s == pytest.approx(4 / 3 * seen.ok_per_s, rel=0.01)
    assert seen.refused is not None
    assert (seen.refused.samples, ok(seen).samples) == (250, 750)
    assert seen.refused.p99_ms == pytest.approx(1, abs=0.6)
    assert ok(seen).p50_ms == pytest.approx(30, abs=0.6)
    assert seen.faults == ()


def test_requests_that_wait_for_a_connection_are_counted_and_make_the_run_unbelievable() -> None:
    seen = World(lambda sent_s: (sent_s + 1.0, 200)).open_loop(times(Steady(100), 1, seed=0), connections=10)

    assert seen.counts.waited == 90
    assert seen.faults == (
        "90 of 100 requests waited for a free connection: it takes more of them, or the server was away",
    )
    assert ok(seen).max_ms == pytest.approx(9100, abs=1)  # the last ten are due at 0.9 s and sent at 9 s
    assert lag(seen).max_ms == pytest.approx(0, abs=1)  # which was not the generator's fault


def test_a_generator_that_is_held_up_says_so() -> None:
    world = World(lambda sent_s: (sent_s, 200))

    def hold_up(until_s: float) -> None:
        world.now_s = until_s

    world.at(0.5, lambda: hold_up(0.6))
    seen = world.open_loop(times(Steady(100), 1, seed=0), connections=50)

    assert lag(seen).max_ms == pytest.approx(100, abs=11)
    assert ok(seen).max_ms == pytest.approx(lag(seen).max_ms, abs=1)
    assert any("the generator did not keep up" in fault for fault in seen.faults)


def test_what_is_due_at_nearly_the_same_time_is_sent_together() -> None:
    sendings: list[float] = []

    def answers(sent_s: float) -> tuple[float, int]:
        sendings.append(sent_s)
        return sent_s, 200

    seen = World(answers).open_loop(np.arange(0, 1, SPACING_S / 10), connections=20)

    assert len(sendings) == 10 / SPACING_S
    assert len(set(sendings)) <= 1 / SPACING_S + 1
    assert 0 <= lag(seen).max_ms <= SPACING_S * 1e3 + 1e-6


def test_lost_connections_and_missing_answers_add_up() -> None:
    def answers(sent_s: float) -> tuple[float, int] | None:
        number = round(sent_s * 10)
        if number == 3:
            return None
        return (math.inf if number == 7 else sent_s + 0.001), 200

    world = World(answers)
    seen = world.open_loop(times(Steady(10), 2, seed=0), connections=3)

    assert (seen.counts.offered, seen.counts.lost, seen.counts.timed_out, seen.counts.unsent) == (20, 1, 1, 0)
    assert seen.counts.statuses == {200: 18}
    assert seen.counts.astray == 2
    assert seen.good_share == pytest.approx(0.9)
    assert world.now_s == pytest.approx(0.7 + TIMEOUT_S, abs=0.11)


def test_a_late_answer_is_one_that_was_given_up_and_its_connection_ends() -> None:
    world = World(lambda sent_s: (sent_s + 0.5, 200))
    seen = world.open_loop(np.array([0.0]), connections=1, timeout_s=0.3)

    assert seen.counts.timed_out == 1
    assert seen.counts.statuses == {}
    assert [line.abandoned for line in world.lines] == [1]


def test_what_no_connection_is_left_for_is_given_up_in_time() -> None:
    world = World(lambda _: None)
    seen = world.open_loop(times(Steady(10), 1, seed=0), connections=3, timeout_s=2)

    assert (seen.counts.lost, seen.counts.unsent) == (3, 7)
    assert seen.ok is None
    assert world.now_s == pytest.approx(0.9 + 2, abs=0.11)


def test_a_connection_that_ended_is_opened_again_and_takes_what_waits() -> None:
    world = World(lambda sent_s: None if sent_s == 0 else (sent_s + 0.001, 200), reopen_s=0.25)
    seen = world.open_loop(times(Steady(10), 1, seed=0), connections=1)

    assert (seen.counts.lost, seen.counts.statuses) == (1, {200: 9})
    assert seen.counts.waited == 2  # those of 0.1 and 0.2 s
    assert ok(seen).max_ms == pytest.approx(151, abs=1)


def test_connections_that_ended_before_the_run_are_opened_in_it() -> None:
    world = World(lambda sent_s: (sent_s, 200), reopen_s=0.25, open_at_first=False)
    seen = world.open_loop(times(Steady(10), 1, seed=0), connections=1)

    assert seen.counts.statuses == {200: 10}
    assert ok(seen).max_ms == pytest.approx(250, abs=1)


def test_what_has_no_connection_yet_waits() -> None:
    world = World(lambda sent_s: (sent_s + 1, 200))
    seen: list[tuple[int, int]] = []

    def look() -> None:
        assert world.pacing is not None
        seen.append((world.pacing.under_way, world.pacing.waiting(world.now_s)))

    for when_s in (0.15, 0.95):
        world.at(when_s, look)
    world.open_loop(times(Steady(10), 1, seed=0), connections=4)

    assert seen == [(2, 0), (4, 6)]


def test_idle_connections_that_end_are_not_opened_again_while_enough_are_free() -> None:
    world = World(lambda sent_s: (sent_s, 200), reopen_s=0.001)
    ending = SPARE + 8

    def end_idle() -> None:
        assert world.pacing is not None
        for line in world.lines[:ending]:
            line.open = False
            world.pacing.lost(line, world.now_s)

    world.at(0.5, end_idle)
    world.open_loop(times(Steady(10), 2, seed=0), connections=2 * SPARE)

    assert world.pacing is not None
    assert world.pacing.reopened == ending - SPARE + 1  # one of them is busy from time to time


def test_a_run_that_is_stopped_sends_nothing_more_and_waits_for_what_is_on_its_way() -> None:
    world = World(lambda sent_s: (sent_s + 0.3, 200))

    def stop() -> None:
        assert world.pacing is not None
        world.pacing.stop(world.now_s)

    world.at(0.45, stop)
    seen = world.open_loop(times(Steady(10), 10, seed=0), connections=2)

    # Those of 0, 0.1, 0.3 and 0.4 s have a connection at once or soon; that of 0.2 s waits until 0.3.
    assert seen.counts.offered == 5
    assert seen.counts.statuses == {200: 4}
    assert seen.counts.unsent == 1
    assert world.now_s == pytest.approx(0.7, abs=0.01)


def test_the_run_ends_when_all_was_sent_and_answered() -> None:
    world = World(lambda sent_s: (sent_s + 0.2, 200))

    world.open_loop(times(Steady(10), 1, seed=0), connections=3)

    assert world.ended
    assert world.now_s == pytest.approx(1.1, abs=0.01)


def test_a_closed_loop_sends_on_each_connection_as_soon_as_it_has_its_answer() -> None:
    world = World(lambda sent_s: (sent_s + 0.25, 200))

    seen = world.closed_loop(end_s=10, connections=4)

    assert world.ended
    assert seen.counts.statuses == {200: 160}
    assert seen.counts.waited == 0
    assert ok(seen).max_ms == pytest.approx(250)
