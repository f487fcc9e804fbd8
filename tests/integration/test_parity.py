"""One truth: the same inputs along every way in give the same numbers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from examples.digits.train import held_out
from tests.integration.server import SluiceProcess
from tests.integration.ways import Arrays, Way, ways
from tests.integration.ways.v2_rest import flat_json

REFERENCE = flat_json


def questions() -> dict[str, Arrays]:
    pixels = held_out().pixels.astype(np.float32)
    return {"digits": {"pixels": pixels[:7]}, "linear": {"x": np.array([[3], [0.1], [-1e-7], [1e30]], np.float32)}}


@pytest.mark.parametrize("model", ["digits", "linear"])
@pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in ways().items()])
def test_every_way_gives_the_same_numbers(examples: SluiceProcess, way: Way, model: str) -> None:
    inputs = questions()[model]
    outputs = way(examples, model, inputs)
    if outputs is None:
        pytest.skip("this model cannot be asked in this way")
    expected = REFERENCE(examples, model, inputs)
    assert set(outputs) == set(expected)
    for name, array in expected.items():
        assert outputs[name].dtype == array.dtype
        assert outputs[name].shape == array.shape
        assert outputs[name].tobytes() == array.tobytes()
