"""The linear example: the committed model is what the script makes, and gives y = 2x - 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort

from examples.linear import make


def test_the_committed_model_is_the_one_the_script_makes() -> None:
    assert make.MODEL_FILE.read_bytes() == make.model()


def test_it_gives_two_x_minus_one() -> None:
    session = ort.InferenceSession(make.model(), providers=["CPUExecutionProvider"])
    specs = [(spec.name, spec.type, spec.shape) for spec in (*session.get_inputs(), *session.get_outputs())]
    assert specs == [("x", "tensor(float)", ["rows", 1]), ("y", "tensor(float)", ["rows", 1])]
    x = np.array([[0], [1], [2.5], [-3]], np.float32)
    assert np.array_equal(session.run(None, {"x": x})[0], 2 * x - 1)


def test_the_page_has_the_samples_answer() -> None:
    folder = Path(make.__file__).parent
    (x,) = json.loads((folder / "sample.json").read_text())["inputs"]
    answer = [2 * value - 1 for (value,) in x["data"]]
    assert str([float(value) for value in answer]) in (folder / "README.md").read_text()
