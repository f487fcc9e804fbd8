"""Classifiers in their default export, by a real gateway: what scikit-learn says, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import classifiers, models
from tests.integration.server import SluiceProcess, serving

WITH_CLASSES = sorted(set(classifiers.ALL) - {"two_outputs"})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[SluiceProcess]:
    folder = tmp_path_factory.mktemp("models")
    for name, made in classifiers.ALL.items():
        models.place(made().model, folder / name / "1")
    models.place(classifiers.named().model, folder / "called" / "1")
    (folder / "called" / "model.toml").write_text('[labels]\noutput_probability = ["a", "b", "c"]\n')
    with serving(folder, log=log) as process:
        yield process


def _answer(server: SluiceProcess, name: str) -> dict[str, Any]:
    answer = server.infer(name, {"inputs": [classifiers.ALL[name]().given]})
    assert answer.status_code == 200, answer.text
    return {each["name"]: np.array(each["data"]).reshape(each["shape"]) for each in answer.json()["outputs"]}


@pytest.mark.parametrize("name", classifiers.ALL)
def test_the_answers_are_those_of_scikit_learn(server: SluiceProcess, name: str) -> None:
    expected = classifiers.ALL[name]()
    labels, *probabilities = _answer(server, name).values()
    np.testing.assert_array_equal(labels, expected.labels)
    for found, right in zip(probabilities, expected.probabilities, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.mark.parametrize("name", classifiers.ALL)
def test_rows_of_many_callers_are_those_of_scikit_learn(server: SluiceProcess, name: str) -> None:
    expected = classifiers.ALL[name]()
    width = expected.rows.shape[1]

    def ask(row: int) -> None:
        given = expected.given | {"shape": [1, width], "data": expected.rows[row].tolist()}
        outputs = server.infer(name, {"inputs": [given]}).json()["outputs"]
        found = np.array(outputs[1]["data"]).reshape(outputs[1]["shape"])
        np.testing.assert_allclose(found, expected.probabilities[0][[row]], atol=1e-5)

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ask, [row % len(expected.rows) for row in range(64)]))


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_the_metadata_says_that_they_are_tensors(server: SluiceProcess, name: str) -> None:
    label, probabilities = server.client.get(f"/v2/models/{name}").json()["outputs"]
    classes = classifiers.ALL[name]().probabilities[0].shape[1]
    assert (label["shape"], label["datatype"]) == ([-1], "INT64" if _numbered(name) else "BYTES")
    assert (probabilities["shape"], probabilities["datatype"]) == ([-1, classes], "FP32")


def test_an_output_of_several_is_a_tensor_for_each(server: SluiceProcess) -> None:
    outputs = server.client.get("/v2/models/two_outputs").json()["outputs"]
    assert [each["name"] for each in outputs] == ["label", "probabilities_0", "probabilities_1"]
    assert [each["shape"][0] for each in outputs] == [-1, -1, -1]


def test_the_classes_of_the_file_are_the_labels(server: SluiceProcess) -> None:
    assert _top(server, "named") == classifiers.FLOWERS[0]
    assert _top(server, "pipeline") == "-1"


def test_labels_of_model_toml_go_before_the_files(server: SluiceProcess) -> None:
    assert _top(server, "called") == "a"


def test_torchserves_clients_get_the_map_that_the_export_would_make(server: SluiceProcess) -> None:
    row = classifiers.named().rows[0].tolist()
    answer = server.client.post("/predictions/named", json=row).json()
    assert answer["output_label"] == classifiers.FLOWERS[0]
    right = dict(zip(classifiers.FLOWERS, classifiers.named().probabilities[0][0].tolist(), strict=True))
    assert answer["output_probability"] == pytest.approx(right, abs=1e-5)


def test_tensorflow_servings_clients_get_the_classes(server: SluiceProcess) -> None:
    row = classifiers.named().rows[0].tolist()
    answer = server.client.post("/v1/models/named:classify", json={"examples": [{"x": row}]}).json()
    assert [label for label, _ in answer["results"][0]] == list(classifiers.FLOWERS)


def test_one_line_of_the_log_says_which_outputs_and_the_configuration_why(server: SluiceProcess, log: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = {line["model"]: line["because"] for line in lines if line["event"] == "outputs are served as plain tensors"}
    assert len([line for line in lines if line["event"] == "outputs are served as plain tensors"]) == len(told)
    assert set(told) == {*classifiers.ALL, "called"}
    assert "output 'output_probability'" in told["named"]
    assert "ZipMap" in told["named"]
    assert "3 classes" in told["named"]
    assert server.client.get("/v2/models/named/config").json()["sluice"]["notes"] == [told["named"]]


def _top(server: SluiceProcess, name: str) -> str:
    given = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": classifiers.logistic().rows[0].tolist()}
    wanted = {"name": "output_probability", "parameters": {"classification": 1}}
    (found,) = server.infer(name, {"inputs": [given], "outputs": [wanted]}).json()["outputs"][0]["data"]
    return str(found.split(":")[2])


def _numbered(name: str) -> bool:
    return classifiers.ALL[name]().labels.dtype.kind == "i"
