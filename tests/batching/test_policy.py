from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.policy import (
    FULL_LEAD_PART,
    FULL_LEAD_S,
    HOLD_PART,
    LEAD_PART,
    LEAD_S,
    LONG_RUN_S,
    Front,
    Growth,
    Reason,
    after_dispatch,
    at_once,
    behind,
    to_idle_worker,
)
from sluice.inference.types import Vacancy

NOW_S = 1000.0

counts = st.integers(0, 100)
sizes = st.integers(1, 64)
vacancies = st.builds(Vacancy, st.integers(0, 3), st.integers(0, 3), st.integers(0, 6))
rooms = vacancies.filter(lambda vacancy: vacancy.idle or vacancy.spare)
seconds = st.floats(0, 10)
growths = st.builds(
    Growth,
    rows=sizes,
    wanted_rows=sizes,
    rows_per_s=st.floats(0, 1e6),
    latest_s=st.floats(NOW_S - 1, NOW_S + 10),
    until_s=st.none() | st.floats(NOW_S - 1, NOW_S + 10),
)


@given(counts, counts, sizes)
def test_nothing_leaves_without_room(again: int, waiting: int, full: int) -> None:
    decision = at_once(Vacancy(0, 0, 2), again, waiting, full)
    assert decision is not None
    assert decision.reason is None
    assert decision.look_again_s == math.inf


@given(vacancies, sizes)
def test_nothing_leaves_when_nothing_waits(vacancy: Vacancy, full: int) -> None:
    decision = at_once(vacancy, 0, 0, full)
    assert decision is not None
    assert decision.reason is None
    assert decision.look_again_s == math.inf


@given(rooms, st.integers(1, 3), counts, sizes)
def test_what_is_run_again_goes_into_any_room_before_all_else(
    vacancy: Vacancy, again: int, waiting: int, full: int
) -> None:
    decision = at_once(vacancy, again, waiting, full)
    assert decision is not None
    assert decision.reason is Reason.AGAIN


@given(rooms, st.integers(1, 100), sizes)
def test_a_full_batch_goes_to_an_idle_worker_and_anything_else_needs_thought(
    vacancy: Vacancy, waiting: int, full: int
) -> None:
    decision = at_once(vacancy, 0, waiting, full)
    if vacancy.idle and waiting >= full:
        assert decision is not None
        assert decision.reason is Reason.FULL
    else:
        assert decision is None


def test_without_an_objective_nothing_is_held_back() -> None:
    assert to_idle_worker(None, NOW_S).reason is Reason.IDLE


@given(growths)
def test_nothing_is_held_past_its_latest_start(growth: Growth) -> None:
    decision = to_idle_worker(growth, NOW_S)
    if decision.reason is None:
        assert NOW_S < decision.look_again_s <= growth.latest_s
        assert decision.look_again_s < math.inf
    elif growth.latest_s <= NOW_S:
        assert decision.reason in {Reason.DEADLINE, Reason.NO_GAIN, Reason.IDLE}


@given(growths)
def test_nothing_is_held_that_is_large_enough(growth: Growth) -> None:
    if growth.rows >= HOLD_PART * growth.wanted_rows:
        assert to_idle_worker(growth, NOW_S).reason in {Reason.NO_GAIN, Reason.IDLE}


@given(sizes, st.floats(0, 1e6), st.floats(NOW_S - 1, NOW_S + 10))
def test_at_low_load_nothing_is_held(rows: int, rows_per_s: float, latest_s: float) -> None:
    assert to_idle_worker(Growth(rows, 1, rows_per_s, latest_s, None), NOW_S).reason is Reason.IDLE


@pytest.mark.parametrize("latest_s", [NOW_S + 0.05, NOW_S + 0.001])
def test_nothing_is_held_when_no_row_is_expected_before_it_must_leave(latest_s: float) -> None:
    none_in_time = 0.9 / (latest_s - NOW_S)
    assert to_idle_worker(Growth(1, 64, none_in_time, latest_s, None), NOW_S).reason is Reason.IDLE


def test_nothing_is_held_when_nothing_comes() -> None:
    assert to_idle_worker(Growth(1, 64, 0.0, NOW_S + 0.05, None), NOW_S).reason is Reason.IDLE


def test_a_hold_is_not_prolonged() -> None:
    until_s, latest_s = NOW_S + 0.003, NOW_S + 0.01
    held = Growth(1, 64, 1e3, latest_s, until_s)
    assert to_idle_worker(held, until_s - 0.001).look_again_s == until_s
    assert to_idle_worker(held, until_s).reason is Reason.IDLE


def test_a_hold_ends_early_for_a_more_urgent_request_that_came_meanwhile() -> None:
    until_s, latest_s = NOW_S + 0.01, NOW_S + 0.003
    held = Growth(1, 64, 1e3, latest_s, until_s)
    assert to_idle_worker(held, NOW_S).look_again_s == latest_s
    assert to_idle_worker(held, latest_s).reason is Reason.DEADLINE


def test_each_reason_of_an_idle_worker_has_its_case() -> None:
    soon_s = NOW_S + 0.01
    assert to_idle_worker(Growth(1, 1, 5.0, soon_s, None), NOW_S).reason is Reason.IDLE
    assert to_idle_worker(Growth(32, 64, 5e4, soon_s, None), NOW_S).reason is Reason.NO_GAIN
    assert to_idle_worker(Growth(31, 64, 5e4, NOW_S, None), NOW_S).reason is Reason.DEADLINE
    held = to_idle_worker(Growth(22, 64, 5e3, soon_s, None), NOW_S)
    assert held.reason is None
    assert held.look_again_s == pytest.approx(NOW_S + 10 / 5e3)
    assert to_idle_worker(Growth(1, 64, 1e3, soon_s, None), NOW_S).look_again_s == soon_s


fronts = st.builds(Front, rows=sizes, run_s=seconds, left_s=seconds)


@given(fronts, sizes, sizes, st.sampled_from([0.01, 0.05, 1.0, math.inf]))
def test_behind_a_running_batch_nothing_leaves_before_the_lead(
    front: Front, waiting: int, full: int, objective_s: float
) -> None:
    lead_s = min(LEAD_S, LEAD_PART * objective_s)
    if waiting >= full:
        lead_s = min(FULL_LEAD_S, FULL_LEAD_PART * objective_s)
    decision = behind(front, waiting, full, objective_s, NOW_S)
    if front.left_s > lead_s:
        assert decision.reason is None
        assert decision.look_again_s == pytest.approx(NOW_S + front.left_s - lead_s, rel=1e-15)
        return
    assert decision.look_again_s == math.inf
    if waiting >= full:
        assert decision.reason is Reason.FULL
    else:
        leaves = front.run_s >= LONG_RUN_S or waiting >= 0.75 * front.rows
        assert decision.reason is (Reason.AHEAD if leaves else None)


def test_behind_a_short_run_a_batch_leaves_only_if_it_is_not_much_smaller() -> None:
    short = Front(rows=8, run_s=LONG_RUN_S / 2, left_s=0.0)
    assert behind(short, 6, 64, math.inf, NOW_S).reason is Reason.AHEAD
    assert behind(short, 5, 64, math.inf, NOW_S).reason is None
    assert behind(short, 5, 5, math.inf, NOW_S).reason is Reason.FULL


def test_behind_a_long_run_any_batch_leaves_when_that_is_about_to_end() -> None:
    assert behind(Front(64, LONG_RUN_S, LEAD_S), 1, 64, math.inf, NOW_S).reason is Reason.AHEAD
    assert behind(Front(64, LONG_RUN_S, LEAD_S * 1.01), 63, 64, math.inf, NOW_S).reason is None


def test_a_full_batch_leaves_earlier_since_it_does_not_grow_any_more() -> None:
    front = Front(64, 0.1, (LEAD_S + FULL_LEAD_S) / 2)
    assert behind(front, 63, 64, math.inf, NOW_S).reason is None
    assert behind(front, 64, 64, math.inf, NOW_S).reason is Reason.FULL


def test_idle_workers_are_given_work_first() -> None:
    assert after_dispatch(Vacancy(2, 1, 3)) == Vacancy(1, 1, 3)
    assert after_dispatch(Vacancy(0, 1, 3)) == Vacancy(0, 0, 3)
