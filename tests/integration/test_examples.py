"""The bundled models, called as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from examples.digits.train import held_out
from tests.integration.server import SluiceProcess, v2

README = Path(__file__).parents[2] / "README.md"


def test_the_served_digits_are_scikit_learns_own(examples: SluiceProcess) -> None:
    test = held_out()
    outputs = examples.outputs("digits", v2("pixels", test.pixels.shape, test.pixels.ravel().tolist()))
    np.testing.assert_array_equal(outputs["label"], test.labels_predicted)
    probabilities = np.array(outputs["probabilities"]).reshape(-1, 10)
    np.testing.assert_allclose(probabilities, test.probabilities_predicted, atol=1e-5)


def test_linear_is_two_x_minus_one(examples: SluiceProcess) -> None:
    assert examples.outputs("linear", v2("x", [3, 1], [1, 2.5, -4])) == {"y": [1.0, 4.0, -9.0]}


def test_what_the_readme_says_is_what_happens(examples: SluiceProcess) -> None:
    """Its `curl` commands are sent as they stand: `curl -d` says that the body is a form, and must just work."""
    readme = README.read_text()
    command = re.search(
        r"curl -d '(?P<body>[^']*)' \\\s+http://127.0.0.1:8000(?P<path>\S+)\n\nanswers\n\n +(?P<answer>.*)\n", readme
    )
    assert command
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = examples.client.post(command["path"], content=command["body"], headers=headers)
    assert answer.text == command["answer"]
    sample, path = re.findall(r"curl -d @(\S+) http://127.0.0.1:8000([^\s`]+)", readme)[0]
    answer = examples.client.post(path, content=(README.parent / sample).read_bytes(), headers=headers)
    assert answer.status_code == 200
    rows = json.loads((README.parent / sample).read_text())["inputs"][0]["shape"][0]
    assert [output["shape"] for output in answer.json()["outputs"]] == [[rows], [rows, 10]]
