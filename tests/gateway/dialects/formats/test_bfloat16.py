from __future__ import annotations

import bisect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.dialects.formats import bfloat16

ALL = np.arange(2**16, dtype=np.uint16)
FINITE = ALL[(ALL & 0x7F80) != 0x7F80]
POSITIVE = FINITE[FINITE < 0x8000]
MAGNITUDES = [Fraction(float(value)) for value in bfloat16.to_float32(POSITIVE)]


def nearest(value: float) -> int:
    """The nearest bfloat16 by exact arithmetic, ties to the even pattern."""
    sign = 0x8000 if np.signbit(value) else 0
    magnitude = Fraction(abs(value))
    right = bisect.bisect_left(MAGNITUDES, magnitude)
    candidates = [index for index in (right - 1, right) if 0 <= index < len(MAGNITUDES)]
    return sign | min(candidates, key=lambda index: (abs(MAGNITUDES[index] - magnitude), index & 1))


def test_every_finite_value_comes_back() -> None:
    values = bfloat16.to_float32(FINITE).astype(np.float64)
    assert np.array_equal(bfloat16.from_float64(values), FINITE)


def test_known_values() -> None:
    bits = bfloat16.from_float64(np.array([1.0, -2.0, 0.0, -0.0, 3.0e38]))
    assert bits.tolist() == [0x3F80, 0xC000, 0x0000, 0x8000, 0x7F62]


def test_ties_go_to_the_even_pattern_and_nearly_ties_do_not() -> None:
    tie = 1.0 + 2.0**-8
    values = np.array([tie, np.nextafter(tie, 2), np.nextafter(tie, 0), tie + 2.0**-7])
    assert bfloat16.from_float64(values).tolist() == [0x3F80, 0x3F81, 0x3F80, 0x3F82]


@given(st.floats(min_value=-3.39e38, max_value=3.39e38, allow_nan=False))
def test_rounds_to_nearest(value: float) -> None:
    assert int(bfloat16.from_float64(np.array([value]))[0]) == nearest(value)


@given(st.integers(0, len(POSITIVE) - 2), st.sampled_from([-1, 0, 1]))
def test_rounds_to_nearest_around_every_tie(index: int, side: int) -> None:
    tie = float((MAGNITUDES[index] + MAGNITUDES[index + 1]) / 2)
    value = tie if side == 0 else float(np.nextafter(tie, side * np.inf))
    assert int(bfloat16.from_float64(np.array([value]))[0]) == nearest(value)


@pytest.mark.parametrize("value", [float((2**9 - 1) * 2**119), 3.4e38, 1e39, 1.7e308, -1e39])
def test_refuses_what_would_be_infinite(value: float) -> None:
    with pytest.raises(OverflowError):
        bfloat16.from_float64(np.array([0.0, value]))


def test_takes_the_last_value_that_is_not_infinite() -> None:
    largest = np.nextafter(float((2**9 - 1) * 2**119), 0)
    assert bfloat16.from_float64(np.array([largest])).tolist() == [0x7F7F]


def test_what_is_not_finite_stays_so() -> None:
    values = np.array([[np.inf, -np.inf], [np.nan, 1.00390625]])
    assert bfloat16.from_any_float64(values).tolist() == [[0x7F80, 0xFF80], [0x7FC0, 0x3F80]]
    with pytest.raises(OverflowError):
        bfloat16.from_any_float64(np.array([np.inf, 3.4e38]))
