"""Train the digits classifier and export it to ONNX: run `python -m examples.digits.train`.

Raw pixels go in: the scaling is part of the pipeline, and so of the exported graph. Split and seed are fixed, so that
every run gives the same model and the same held-out set, which no training has seen.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
MODEL_FILE = HERE.parent / "models/digits/1/model.onnx"
SAMPLE_FILE = MODEL_FILE.parents[1] / "sample.json"
ACCURACY_FILE = HERE / "accuracy.json"

SEED = 0
SAMPLE_ROWS = 3
OPSET = 17
IR_VERSION = 8


class Digits(NamedTuple):
    """Images of digits: `pixels` float32[N, 64] from 0 to 16, row by row, and what they show, `labels` int64[N]."""

    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class HeldOut(NamedTuple):
    """The images that no training has seen, with what scikit-learn itself predicts for them.

    `labels_predicted` int64[N] and `probabilities_predicted` float64[N, 10] stand beside `pixels` and `labels`.
    """

    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    labels_predicted: npt.NDArray[np.int64]
    probabilities_predicted: npt.NDArray[np.float64]


def split() -> tuple[Digits, Digits]:
    """The images to train with, four fifths, and the held-out ones."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        pixels.astype(np.float32), labels.astype(np.int64), test_size=0.2, random_state=SEED, stratify=labels
    )
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


@cache
def trained() -> Any:
    """The fitted scikit-learn pipeline. Takes a second or two the first time."""
    known = split()[0]
    network = MLPClassifier(hidden_layer_sizes=(128,), max_iter=500, random_state=SEED)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("classify", network)])
    # In float64, rounding differs too little from one processor to the next to show in the result; in float32 it does.
    # With one thread, sums come in the same order everywhere, and matrices this small gain nothing from two.
    with threadpool_limits(1):
        return pipeline.fit(known.pixels.astype(np.float64), known.labels)


def held_out() -> HeldOut:
    """The held-out images, labels and predictions."""
    pixels, labels = split()[1]
    exact = pixels.astype(np.float64)
    return HeldOut(pixels, labels, trained().predict(exact), trained().predict_proba(exact))


def exported() -> bytes:
    """The model as ONNX: `pixels` float32[rows, 64] -> `label` int64[rows], `probabilities` float32[rows, 10]."""
    model = to_onnx(
        trained(),
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        options={"zipmap": False},
        target_opset={"": OPSET},
    )
    _label_by_argmax(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    # The newest format that this opset needs, so that an older ONNX Runtime can read it too.
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _label_by_argmax(graph: Any) -> None:
    """Let `label` be the place of the highest probability.

    The classes are 0 to 9 in this order, so looking them up by that place, as the export does, changes nothing but
    one thing: the look-up fails where there are no rows.
    """
    argmax = next(node for node in graph.node if node.op_type == "ArgMax")
    for node in list(graph.node)[list(graph.node).index(argmax) :]:
        graph.node.remove(node)
    graph.node.append(onnx.helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    used = {name for node in graph.node for name in node.input}
    for initializer in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(initializer)


def sample() -> str:
    """A V2 request with the first held-out rows, one on a line."""
    rows = split()[1].pixels[:SAMPLE_ROWS].astype(int).tolist()
    data = ",\n".join(f"    {row}" for row in rows)
    opening = f'{{"inputs": [{{"name": "pixels", "datatype": "FP32", "shape": [{SAMPLE_ROWS}, 64], "data": [\n'
    return f"{opening}{data}\n]}}]}}\n"


def accuracy() -> dict[str, int | float]:
    """How many of the held-out images scikit-learn's model gets right."""
    unseen = held_out()
    correct = int((unseen.labels_predicted == unseen.labels).sum())
    rows = len(unseen.labels)
    return {"held_out_rows": rows, "correct_rows": correct, "accuracy": round(correct / rows, 4)}


def main() -> None:
    """Write the model, the sample request and the accuracy."""
    MODEL_FILE.parent.mkdir(parents=True, exist_ok=True)
    MODEL_FILE.write_bytes(exported())
    SAMPLE_FILE.write_text(sample())
    ACCURACY_FILE.write_text(json.dumps(accuracy(), indent=2) + "\n")
    print(f"wrote {MODEL_FILE}\nheld-out accuracy: {accuracy()['accuracy']}")


if __name__ == "__main__":
    main()
