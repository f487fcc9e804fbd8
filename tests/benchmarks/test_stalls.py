"""The server whose stalls are known is one, and what it makes of callers is computed rightly."""

from __future__ import annotations

import pytest

from benchmarks.stalls import MAX, MEAN, P50, P90, P99, TOLERANCES, truth, wrong
from sluice.loadgen.arrivals import Steady, times
from tests.loadgen.test_pacing import ok
from tests.loadgen.virtual import PERIOD_S, World, stalling


def test_the_truth_is_what_callers_go_through_in_virtual_time() -> None:
    seen = ok(World(stalling).open_loop(times(Steady(2000), 20 * PERIOD_S, seed=0), connections=1000))

    measured = {MEAN: seen.mean_ms, P50: seen.p50_ms, P90: seen.p90_ms, P99: seen.p99_ms, MAX: seen.max_ms}
    assert truth() == pytest.approx(measured, abs=1)


def test_a_row_that_is_not_the_truth_is_wrong_where_it_is_not() -> None:
    assert wrong(truth()) == []
    assert wrong({**truth(), P90: truth()[P90] - 2 * TOLERANCES[P90]}) == [P90]
