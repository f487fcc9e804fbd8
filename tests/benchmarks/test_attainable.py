"""What a perfect server makes of a schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.attainable import attainable
from sluice.loadgen.arrivals import Arrivals, Bursts, Steady, times
from tests.loadgen.test_arrivals import ARRIVALS


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
