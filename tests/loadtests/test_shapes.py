from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.shapes import SHAPES, Load


def profile(load: Load, every_s: float = 1.0) -> list[int]:
    """The users at each moment until the end."""
    users: list[int] = []
    for moment in range(10_000):
        now = load.users_at(moment * every_s)
        if now is None:
            return users
        users.append(now)
    raise AssertionError("the shape does not end")


def test_steady_is_steady() -> None:
    assert profile(Load("steady", 7, 4)) == [7] * 4


def test_the_step_ramp_climbs_evenly_to_the_peak() -> None:
    assert profile(Load("step", 10, 10, steps=5)) == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10]


def test_the_spike_is_the_middle_third() -> None:
    assert profile(Load("spike", 40, 6)) == [4, 4, 40, 40, 4, 4]


def test_bursts_leave_one_user_between_them() -> None:
    assert profile(Load("bursts", 20, 8, burst_s=2)) == [20, 20, 1, 1, 20, 20, 1, 1]


def test_a_soak_begins_slowly_and_stays() -> None:
    users = profile(Load("soak", 5, 100))
    assert users[:6] == [1, 1, 2, 3, 4, 5]
    assert set(users[6:]) == {5}


@given(
    st.sampled_from(list(SHAPES)),
    st.integers(1, 10_000),
    st.floats(1, 1e5),
    st.integers(1, 1000),
    st.floats(1, 3600),
    st.floats(0, 1),
)
def test_every_shape_keeps_its_bounds_and_ends(
    shape: str, peak: int, duration_s: float, steps: int, burst_s: float, part: float
) -> None:
    load = Load(shape, peak, duration_s, steps, burst_s)
    users = load.users_at(part * duration_s * 0.999)
    assert users is not None
    assert 1 <= users <= peak
    assert load.users_at(duration_s) is None


@pytest.mark.parametrize(
    "wrong", [("saw", 1, 1.0), ("steady", 0, 1.0), ("steady", 10_001, 1.0), ("steady", 1, 0.0), ("steady", 1, 1e9)]
)
def test_what_would_not_end_or_not_begin_is_refused(wrong: tuple[str, int, float]) -> None:
    with pytest.raises(ValueError, match=r"expected more than 0|unknown shape"):
        Load(*wrong)


def test_the_defaults_of_every_shape_are_within_the_bounds() -> None:
    for name, shape in SHAPES.items():
        assert Load(name, shape.peak_users, shape.duration_s).users_at(0)
