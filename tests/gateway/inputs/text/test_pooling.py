from __future__ import annotations

import numpy as np
import pytest

from sluice.gateway.inputs.text.pooling import POOLINGS, scaled
from sluice.inference.types import Array

VECTORS = np.array([[[1, -2], [3, 4], [5, -5]], [[0, 0], [0, 1], [6, 8]]], np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", [[3, -1], [2, 3]]),
        ("cls", [[1, -2], [0, 0]]),
        ("last", [[5, -5], [6, 8]]),
        ("max", [[5, 4], [6, 8]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_tokens_of_each_text_become_one_vector(name: str, expected: list[list[float]], dtype: type) -> None:
    pooled = POOLINGS[name](VECTORS.astype(dtype))
    assert pooled.dtype == np.float32
    assert pooled.tolist() == expected


def test_a_mean_of_halves_is_summed_up_in_more_bits() -> None:
    many = np.full((1, 4096, 1), 17, np.float16)  # the sum is beyond the largest half
    assert POOLINGS["mean"](many).tolist() == [[17]]


@pytest.mark.parametrize(
    ("row", "expected"), [([3, 4], [0.6, 0.8]), ([0, 0], [0, 0]), ([3e30, 4e30], [0.6, 0.8]), ([3e-30, 0], [1, 0])]
)
def test_each_row_is_scaled_to_length_one(row: list[float], expected: list[float]) -> None:
    vectors: Array = np.array([row, [1, 0]], np.float32)
    result = scaled(vectors)
    assert result.dtype == np.float32
    assert np.allclose(result, np.array([expected, [1, 0]]), rtol=1e-6, atol=0)
