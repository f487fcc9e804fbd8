"""The load generator sends when requests are due, and counts latency from then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.arrivals import Steady, times
from benchmarks.ledger import Seen, Spread
from benchmarks.pacing import SPACING_S
from tests.loadgen.virtual import OBJECTIVE_S, World

STALL_S, PERIOD_S = 0.4, 1.5


def stalling(sent_s: float) -> tuple[float, int]:
    """Answers at once, but in the first 0.4 s of every 1.5 s: then when those are over."""
    within_s = sent_s % PERIOD_S
    return (sent_s - within_s + STALL_S if within_s < STALL_S else sent_s), 200


def ok(seen: Seen) -> Spread:
    assert seen.ok is not None
    return seen.ok


@pytest.mark.parametrize("connections", [1, 4, 200])
def test_the_stalls_of_a_server_are_seen_whole_however_many_connections_there_are(connections: int) -> None:
    # 200 requests/s: 4 of 15 meet a stall, and wait between 0 and 400 ms, evenly.
    seen = World(stalling).open_loop(times(Steady(200), 20 * PERIOD_S, seed=0), connections)

    assert seen.counts.statuses == {200: 6000}
    assert ok(seen).mean_ms == pytest.approx(53, abs=2)
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
    assert seen.ok_per_s == pytest.approx(95, abs=0.5)


def test_refusals_have_figures_of_their_own() -> None:
    def answers(sent_s: float) -> tuple[float, int]:
        return (sent_s + 0.001, 503) if round(sent_s * 100) % 4 == 0 else (sent_s + 0.03, 200)

    seen = World(answers).open_loop(times(Steady(100), 10, seed=0), connections=50)

    assert seen.counts.statuses == {200: 750, 503: 250}
    assert seen.refused_share == pytest.approx(0.25)
    assert seen.refused is not None
    assert (seen.refused.samples, ok(seen).samples) == (250, 750)
    assert seen.refused.p99_ms == pytest.approx(1, abs=0.6)
    assert ok(seen).p50_ms == pytest.approx(30, abs=0.6)
    assert seen.faults == ()


def test_requests_that_wait_for_a_connection_are_counted_and_make_the_run_invalid() -> None:
    seen = World(lambda sent_s: (sent_s + 1.0, 200)).open_loop(times(Steady(100), 1, seed=0), connections=10)

    assert seen.counts.waited == 90
    assert seen.lag is not None
    assert seen.lag.max_ms == pytest.approx(9 * 900, abs=1)
    assert any("90 of 100 requests waited for a free connection" in fault for fault in seen.faults)
    assert any("did not keep up" in fault for fault in seen.faults)


def test_what_is_due_at_nearly_the_same_time_is_sent_together() -> None:
    sendings: list[float] = []

    def answers(sent_s: float) -> tuple[float, int]:
        sendings.append(sent_s)
        return sent_s, 200

    seen = World(answers).open_loop(np.arange(0, 1, SPACING_S / 10), connections=20)

    assert len(sendings) == 10 / SPACING_S
    assert len(set(sendings)) <= 1 / SPACING_S + 1
    assert seen.lag is not None
    assert 0 <= seen.lag.max_ms <= SPACING_S * 1e3 + 1e-6


def test_lost_connections_and_missing_answers_add_up_and_make_the_run_invalid() -> None:
    def answers(sent_s: float) -> tuple[float, int] | None:
        number = round(sent_s * 10)
        if number == 3:
            return None
        return (math.inf if number == 7 else sent_s + 0.001), 200

    world = World(answers)
    seen = world.open_loop(times(Steady(10), 2, seed=0), connections=3)

    assert (seen.counts.offered, seen.counts.lost, seen.counts.unanswered, seen.counts.unsent) == (20, 1, 1, 0)
    assert seen.counts.statuses == {200: 18}
    assert any("2 requests were neither answered nor refused" in fault for fault in seen.faults)
    assert not world.ended


def test_what_no_connection_is_left_for_stays_unsent() -> None:
    seen = World(lambda _: None).open_loop(times(Steady(10), 1, seed=0), connections=3)

    assert (seen.counts.lost, seen.counts.unsent) == (3, 7)
    assert seen.ok is None
    assert "no request was answered in the window" in seen.faults


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
