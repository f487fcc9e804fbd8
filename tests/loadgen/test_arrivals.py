"""Schedules have the rates that they say, and the same seed gives the same one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.loadgen.arrivals import Arrivals, Bursts, Poisson, Ramp, RateStep, Steady, rising, times

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


def test_a_ramp_keeps_the_rate_of_each_step_and_then_that_of_the_last() -> None:
    drawn = times(Ramp((RateStep(100, 50), RateStep(400, 20))), 100, seed=1)

    assert (drawn < 50).sum() == pytest.approx(100 * 50, rel=0.05)
    assert (drawn >= 50).sum() == pytest.approx(400 * 50, rel=0.03)


def test_a_ramp_that_is_cut_off_keeps_its_first_steps() -> None:
    ramp = Ramp((RateStep(100, 50), RateStep(400, 20)))

    assert times(ramp, 30, seed=1).max() <= 30
    assert len(times(ramp, 30, seed=1)) == pytest.approx(100 * 30, rel=0.07)


def test_rates_rise_evenly() -> None:
    assert rising(100, 500, 5) == pytest.approx([100, 200, 300, 400, 500])
