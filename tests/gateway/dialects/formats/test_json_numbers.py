from __future__ import annotations

import numpy as np
import pytest

from sluice.gateway.dialects.formats.bfloat16 import as_numbers
from sluice.gateway.dialects.formats.json_numbers import numbers_json
from sluice.inference.types import Array, Datatype


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[1, 2]], np.int8), b"[[1,2]]"),
        (np.array([True, False]), b"[true,false]"),
        (np.array([0.1], np.float32), b"[0.1]"),
        (np.array([[np.nan, 1.5], [np.inf, -np.inf]]), b"[[NaN,1.5],[Infinity,-Infinity]]"),
    ],
)
def test_numbers_as_json(array: Array, text: bytes) -> None:
    assert numbers_json(array) == text


def test_only_bfloat16_is_widened() -> None:
    bits = np.array([0x3F80, 0xC000], np.uint16)
    assert as_numbers(Datatype.BF16, bits).tolist() == [1.0, -2.0]
    assert as_numbers(Datatype.UINT16, bits) is bits
