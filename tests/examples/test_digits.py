"""The digits example: the committed files are what the script makes, and the model is as good as the page says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from examples.digits import train


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(train.MODEL_FILE, providers=["CPUExecutionProvider"])


def test_training_and_held_out_images_are_apart_and_fixed() -> None:
    known, unseen = train.split()
    assert (len(known.labels), len(unseen.labels)) == (1437, 360)
    again = train.held_out()
    assert np.array_equal(unseen.pixels, again.pixels)
    assert np.array_equal(unseen.labels, again.labels)
    assert not {row.tobytes() for row in known.pixels} & {row.tobytes() for row in unseen.pixels}


def test_training_again_gives_the_same_model() -> None:
    first = train.exported()
    train.trained.cache_clear()
    assert train.exported() == first


def test_the_committed_model_predicts_what_scikit_learn_does(session: ort.InferenceSession) -> None:
    unseen = train.held_out()
    labels, probabilities = session.run(["label", "probabilities"], {"pixels": unseen.pixels})
    assert np.array_equal(labels, unseen.labels_predicted)
    assert np.allclose(probabilities, unseen.probabilities_predicted, atol=1e-5)


def test_the_model_says_its_shapes(session: ort.InferenceSession) -> None:
    specs = [(spec.name, spec.type, spec.shape) for spec in (*session.get_inputs(), *session.get_outputs())]
    assert specs == [
        ("pixels", "tensor(float)", ["rows", 64]),
        ("label", "tensor(int64)", ["rows"]),
        ("probabilities", "tensor(float)", ["rows", 10]),
    ]


def test_no_rows_give_no_rows(session: ort.InferenceSession) -> None:
    labels, probabilities = session.run(None, {"pixels": np.zeros((0, 64), np.float32)})
    assert (labels.shape, probabilities.shape) == ((0,), (0, 10))


def test_the_model_is_small() -> None:
    assert train.MODEL_FILE.stat().st_size < 300_000


def test_the_accuracy_is_the_one_written_down() -> None:
    accuracy = train.accuracy()
    assert accuracy["accuracy"] >= 0.97
    assert json.loads(train.ACCURACY_FILE.read_text()) == accuracy
    page = (train.HERE / "README.md").read_text()
    assert f"{accuracy['correct_rows']} of {accuracy['held_out_rows']}" in page
    assert f"{accuracy['accuracy']:.2%}" in page


def test_the_sample_is_the_one_the_script_writes_and_the_page_has_its_answer() -> None:
    text = train.SAMPLE_FILE.read_text()
    assert text == train.sample()
    (pixels,) = json.loads(text)["inputs"]
    unseen = train.held_out()
    assert np.array_equal(np.array(pixels["data"], np.float32), unseen.pixels[: train.SAMPLE_ROWS])
    assert str(unseen.labels[: train.SAMPLE_ROWS].tolist()) in (train.HERE / "README.md").read_text()
    assert np.array_equal(unseen.labels_predicted[: train.SAMPLE_ROWS], unseen.labels[: train.SAMPLE_ROWS])
    assert (train.HERE / "sample.json").read_text() == text


def test_training_leaves_the_sample_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "MODEL_FILE", tmp_path / "models/digits/1/model.onnx")
    monkeypatch.setattr(train, "SAMPLE_FILE", tmp_path / "models/digits/sample.json")
    monkeypatch.setattr(train, "ACCURACY_FILE", tmp_path / "accuracy.json")
    train.main()
    assert (tmp_path / "models/digits/sample.json").read_text() == train.sample()
