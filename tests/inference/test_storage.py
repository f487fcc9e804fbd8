from __future__ import annotations

import numpy as np
import pytest

from sluice.inference.storage import LARGEST_FP16, computable, stored
from sluice.inference.types import FLOATS, STORAGE, Datatype

NUMBERS = np.array([-2.5, 0.0, 1.0, 3.0])
"""Exact in every datatype of floats."""


@pytest.mark.parametrize("datatype", FLOATS)
def test_numbers_come_back_from_their_storage(datatype: Datatype) -> None:
    array = stored(NUMBERS, datatype)
    assert array.dtype == STORAGE[datatype]
    assert computable(array, datatype).tolist() == NUMBERS.tolist()


def test_numbers_beyond_fp16_are_stored_as_the_largest_and_not_as_infinity() -> None:
    assert stored(np.array([1e9, -1e9]), Datatype.FP16).tolist() == [LARGEST_FP16, -LARGEST_FP16]


def test_bf16_is_rounded_towards_zero() -> None:
    just_below_two = np.nextafter(np.float32(2.0), np.float32(0.0))
    (number,) = computable(stored(np.array([just_below_two]), Datatype.BF16), Datatype.BF16)
    assert 1.99 < number < 2.0


def test_whole_numbers_keep_their_values() -> None:
    assert stored(np.array([1.0, 2.0]), Datatype.INT8).tolist() == [1, 2]
