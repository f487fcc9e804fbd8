"""The bundled models, called as a user calls them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np

from examples.digits.train import held_out
from tests.integration.server import SluiceProcess, v2

SAMPLES = Path(__file__).parents[2] / "examples"


def test_the_served_digits_are_scikit_learns_own(examples: SluiceProcess) -> None:
    test = held_out()
    outputs = examples.outputs("digits", v2("pixels", test.pixels.shape, test.pixels.ravel().tolist()))
    np.testing.assert_array_equal(outputs["label"], test.labels_predicted)
    probabilities = np.array(outputs["probabilities"]).reshape(-1, 10)
    np.testing.assert_allclose(probabilities, test.probabilities_predicted, atol=1e-5)


def test_linear_is_two_x_minus_one(examples: SluiceProcess) -> None:
    assert examples.outputs("linear", v2("x", [3, 1], [1, 2.5, -4])) == {"y": [1.0, 4.0, -9.0]}


def test_the_line_in_the_readme_works_as_it_is_pasted(examples: SluiceProcess) -> None:
    """`curl -d` sends a form's content type, and must just work."""
    sample = SAMPLES / "digits" / "sample.json"
    command = ["curl", "-sS", "--fail", "-d", f"@{sample}", f"{examples.url}/v2/models/digits/infer"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    rows = json.loads(sample.read_text())["inputs"][0]["shape"][0]
    assert [output["shape"] for output in answer["outputs"]] == [[rows], [rows, 10]]
