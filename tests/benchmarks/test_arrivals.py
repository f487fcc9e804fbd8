from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.simulation.arrivals import (
    Stream,
    day,
    offered_rows_per_s,
    on_off,
    poisson,
    ramp,
    requests,
    steady,
)
from benchmarks.simulation.scenarios import MIXED, SCENARIOS


@pytest.mark.parametrize("load", [0.5, 2.0])
def test_steady_arrivals_have_the_stated_rate_and_spread(load: float) -> None:
    times = poisson(steady(load), 10_000, 1.0, 10.0, (3, 0))
    gaps = np.diff(times)

    assert len(times) / 10.0 == pytest.approx(load * 10_000, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.02)  # exponential


def test_bursts_have_the_stated_mean_height_and_length() -> None:
    times = poisson(on_off(0.75, on_load=3.0, on_s=0.1), 10_000, 1.0, 8.0, (3, 0))
    counts, _ = np.histogram(times, bins=np.linspace(0.0, 8.0, 81))  # steps of 0.1 s; one in four is a burst

    assert len(times) / 8.0 == pytest.approx(7_500, rel=0.03)
    assert set(np.flatnonzero(counts)) <= set(range(3, 80, 4))
    assert counts[3::4].mean() / 0.1 == pytest.approx(30_000, rel=0.03)


def test_a_ramp_climbs_and_falls() -> None:
    shape = ramp(0.2, 2.0, 10.0)

    assert shape(np.array([0.0, 5.0, 10.0])) == pytest.approx([0.2, 2.0, 0.2])


def test_a_day_is_quiet_at_night_busy_at_noon_and_has_crowds() -> None:
    hours = day(24.0, seed=1)(np.linspace(0.0, 24.0, 24 * 60))

    assert hours[:180].mean() < 0.25
    assert 0.6 < np.median(hours[9 * 60 : 12 * 60]) < 1.5
    assert hours.max() > 1.3


def test_rows_count_toward_the_rate_and_not_requests() -> None:
    made = requests([Stream(steady(1.0), MIXED)], 5_000, 10.0, seed=2)

    assert offered_rows_per_s(made) == pytest.approx(5_000, rel=0.03)
    assert {request.rows for request in made} == set(MIXED)


def test_streams_are_merged_in_order_of_arrival() -> None:
    polite, flood = Stream(steady(0.2), client="polite"), Stream(steady(1.8), client="flood")
    made = requests([polite, flood], 1_000, 10.0, seed=2)

    assert [request.index for request in made] == list(range(len(made)))
    assert all([a.arrived_s <= b.arrived_s for a, b in pairwise(made)])
    assert np.mean([request.client == "polite" for request in made]) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("name", ["image bursts 1.0", "mlp mixed 0.9"])
def test_arrivals_depend_on_the_seed_alone(name: str) -> None:
    scenario = SCENARIOS[name]
    first = scenario.requests(1)

    assert first == scenario.requests(1)
    assert first != scenario.requests(2)
