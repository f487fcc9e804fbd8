"""Schedules have the rates that they say, and the same seed gives the same one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arrivals import Arrivals, Bursts, Poisson, Steady, attainable, times

RATES = st.floats(10, 2000)
SECONDS = st.floats(0.05, 3)
ARRIVALS: st.SearchStrategy[Arrivals] = st.one_of(
    st.builds(Steady, RATES), st.builds(Poisson, RATES), st.builds(Bursts, RATES, SECONDS, SECONDS, RATES)
)


@given(ARRIVALS, SECONDS, st.integers(0, 100))
def test_times_rise_within_the_duration_and_follow_from_the_seed(
    arrivals: Arrivals, duration_s: float, seed: int
) -> None:
    drawn = times(arrivals, duration_s, seed)

    assert (np.diff(drawn) >= 0).all()
    assert ((drawn >= 0) & (drawn <= duration_s)).all()
    assert np.array_equal(drawn, times(arrivals, duration_s, seed))


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(times(Poisson(500), 200, seed=1))

    assert gaps.mean() == pytest.approx(1 / 500, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.02)
    assert (gaps > 1 / 500).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_bursts_keep_the_rate_of_each_phase() -> None:
    drawn = times(Bursts(900, on_s=0.2, off_s=0.3, rate_off_per_s=100), 200, seed=1)
    on = drawn % 0.5 < 0.2

    assert on.sum() == pytest.approx(900 * 0.2 * 400, rel=0.02)
    assert (~on).sum() == pytest.approx(100 * 0.3 * 400, rel=0.03)


def test_bursts_without_a_rate_between_them_are_silent_there() -> None:
    drawn = times(Bursts(900, on_s=0.2, off_s=0.3), 10, seed=1)

    assert (drawn % 0.5 < 0.2 + 1e-9).all()


@given(ARRIVALS, st.floats(10, 500), st.floats(0.01, 0.2), st.integers(0, 10))
def test_attainable_is_no_more_than_the_capacity_and_than_what_was_offered(
    arrivals: Arrivals, capacity_per_s: float, objective_s: float, seed: int
) -> None:
    drawn = times(arrivals, 2.0, seed)

    answered = attainable(drawn, capacity_per_s, objective_s)

    assert len(answered) <= min(len(drawn), capacity_per_s * (2 + objective_s))
    assert (np.diff(answered) >= 1 / capacity_per_s - 1e-9).all()


def test_attainable_is_the_capacity_under_steady_overload_and_the_load_below_it() -> None:
    assert len(attainable(times(Steady(200), 10, seed=0), 100, 0.05)) == pytest.approx(1000, abs=6)
    assert len(attainable(times(Steady(50), 10, seed=0), 100, 0.05)) == 500


def test_attainable_of_bursts_leaves_out_the_time_in_which_nothing_is_there() -> None:
    # 0.5 s of overload, and 0.05 s more to finish what came last, of every second.
    bursts = times(Bursts(1000, on_s=0.5, off_s=0.5), 20, seed=0)

    assert len(attainable(bursts, 100, 0.05)) == pytest.approx(20 * 55, rel=0.02)


def test_nothing_is_attainable_where_one_answer_takes_longer_than_the_objective() -> None:
    assert len(attainable(times(Steady(50), 1, seed=0), 10, 0.05)) == 0
