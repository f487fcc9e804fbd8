"""Classifiers of scikit-learn as its users export them, with what scikit-learn itself says of rows that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple
from warnings import catch_warnings

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sluice.inference.types import Array

FLOWERS = ("setosa", "versicolor", "virginica")
TEXTS = ("good day", "bad day", "good good soup", "bad bad bread", "soup of the day", "no bread")
OPSET = {"": 17, "ai.onnx.ml": 3}


class Classifier(NamedTuple):
    """A classifier in its default export, rows for it, and its answers to them.

    `probabilities` are one array, or one for each output of the classifier.
    """

    model: bytes
    rows: Array
    labels: Array
    probabilities: tuple[Array, ...]

    @property
    def given(self) -> dict[str, Any]:
        """The rows as the input of a V2 request."""
        text = self.rows.dtype.kind == "U"
        name = onnx.load_model_from_string(self.model).graph.input[0].name
        data, datatype = self.rows.ravel().tolist(), "BYTES" if text else "FP32"
        return {"name": name, "shape": list(self.rows.shape), "datatype": datatype, "data": data}


@cache
def logistic() -> Classifier:
    """Numbers as classes. The operators end in Normalizer and ZipMap."""
    flowers, kinds = _iris()
    return _numeric(LogisticRegression(max_iter=500).fit(flowers, kinds))


@cache
def named() -> Classifier:
    """Words as classes."""
    flowers, kinds = _iris()
    return _numeric(LogisticRegression(max_iter=500).fit(flowers, np.array(FLOWERS)[kinds]))


@cache
def forest() -> Classifier:
    """Trees, whose shapes the engine does not infer."""
    flowers, kinds = _iris()
    return _numeric(RandomForestClassifier(5, random_state=0).fit(flowers, kinds))


@cache
def pipeline() -> Classifier:
    """Negative numbers as classes, behind a scaler."""
    flowers, kinds = _iris()
    return _numeric(make_pipeline(StandardScaler(), LogisticRegression()).fit(flowers, kinds - 1))


@cache
def text() -> Classifier:
    """A pipeline that takes words. Its vectorizer keeps their case: others need a locale that few machines have."""
    said = np.array([each.startswith("good") for each in TEXTS])
    found = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression()).fit(TEXTS, np.where(said, "+", "-"))
    model = to_onnx(found, initial_types=[("text", StringTensorType([None, 1]))], target_opset=OPSET)
    return _answered(model, found, np.array(TEXTS).reshape(-1, 1), np.array(TEXTS))


@cache
def two_outputs() -> Classifier:
    """Two classifiers in one, which end in a sequence of two tensors."""
    flowers, kinds = _iris()
    both = np.stack([kinds, kinds == 1], axis=1).astype(np.int64)
    fitted = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(flowers, both)
    with catch_warnings(action="ignore", category=UserWarning):  # that there will be no ZipMap
        return _numeric(fitted)


@cache
def boosted() -> Classifier:
    """As LightGBM is exported: both results are passed on by Identity, and the label declares the shape `[1]`."""
    flowers, kinds = _iris()
    found = _numeric(DecisionTreeClassifier(max_depth=2, random_state=0).fit(flowers, np.array(FLOWERS)[kinds]))
    model = onnx.load_model_from_string(found.model)
    (tree,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    given = list(tree.output)
    tree.output[:] = [f"{each}_tensor" for each in given]
    passed = [onnx.helper.make_node("Identity", [f"{each}_tensor"], [each]) for each in given]
    after = list(model.graph.node)
    place = after.index(tree) + 1
    del model.graph.node[:]
    model.graph.node.extend([*after[:place], *passed, *after[place:]])
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
    return found._replace(model=model.SerializeToString())


ALL: Mapping[str, Callable[[], Classifier]] = {
    each.__name__: each for each in (logistic, named, forest, pipeline, text, two_outputs, boosted)
}


def _iris() -> tuple[Array, Array]:
    flowers, kinds = load_iris(return_X_y=True)
    return flowers.astype(np.float32), kinds


def _numeric(fitted: Any) -> Classifier:
    rows = _iris()[0][::5]
    model = to_onnx(fitted, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=OPSET)
    return _answered(model, fitted, rows, rows)


def _answered(model: Any, fitted: Any, rows: Array, asked: Array) -> Classifier:
    found = fitted.predict_proba(asked)
    probabilities = tuple(found) if isinstance(found, list) else (found,)
    return Classifier(model.SerializeToString(), rows, fitted.predict(asked), probabilities)
