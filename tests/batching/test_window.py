from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.window import RecentValues

values = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


@given(values, st.integers(1, 10), st.floats(0, 1))
def test_a_percentile_is_that_of_the_latest_values(given_values: list[float], size: int, share: float) -> None:
    window = RecentValues(size, given_values)
    latest = sorted(given_values[-size:])
    assert len(window) == len(latest)
    found = window.percentile(share)
    assert found in latest
    assert sum(value <= found for value in latest) >= share * len(latest)
    below = [value for value in latest if value < found]
    assert len(below) < max(1, math.ceil(share * len(latest)))
