"""Usual models, as exporters write them, are proven from their graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.findings import Independence
from tests import models
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model

PROVEN, MIXED = Independence.PROVEN, Independence.MIXED

ESTIMATORS = [
    LogisticRegression(max_iter=500),
    RandomForestClassifier(5),
    ExtraTreesClassifier(5),
    DecisionTreeClassifier(),
    GradientBoostingClassifier(n_estimators=3),
    HistGradientBoostingClassifier(max_iter=3),
    KNeighborsClassifier(),
    GaussianNB(),
    MLPClassifier(max_iter=5),
    SVC(probability=True),
    RandomForestRegressor(5),
    GradientBoostingRegressor(n_estimators=3),
    HistGradientBoostingRegressor(max_iter=3),
    MLPRegressor(max_iter=5),
    Ridge(),
    SVR(),
    PCA(2),
    StandardScaler(),
    Normalizer(),
    PolynomialFeatures(2),
    make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda each: type(each).__name__)
def test_scikit_learn(estimator: Any, tmp_path: Path) -> None:
    features, classes = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(features.astype(np.float32), classes)
        options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
        exported = to_onnx(estimator, features[:1].astype(np.float32), options=options)
    proof = proof_of(exported.SerializeToString(), tmp_path)
    assert proof.verdict is PROVEN, proof.because


def test_scikit_learn_on_texts(tmp_path: Path) -> None:
    texts = np.array(["to be or not", "that is the question", "whether tis nobler", "in mind"] * 3)
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    pipeline.fit(texts, [0, 1, 0, 1] * 3)
    exported = to_onnx(pipeline, initial_types=[("texts", StringTensorType([None]))], options={"zipmap": False})
    proof = proof_of(exported.SerializeToString(), tmp_path)
    assert proof.verdict is PROVEN, proof.because


@pytest.mark.parametrize("build", [models.tiny, models.mlp, models.image, models.texts, models.token_vectors])
def test_the_benchmarks_models(build: Callable[[], bytes], tmp_path: Path) -> None:
    assert proof_of(build(), tmp_path).verdict is PROVEN


@pytest.mark.parametrize("name", ["digits", "linear"])
def test_the_bundled_models(name: str) -> None:
    assert prove(Path("examples/models") / name / "1" / "model.onnx").verdict is PROVEN


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._left = iter([{"x": np.ones((2, 4), np.float32)}] * 3)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def test_quantised_with_fixed_scales(tmp_path: Path) -> None:
    source, target = models.place(models.tiny(), tmp_path), tmp_path / "quantised.onnx"
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        quantize_static(source, target, _Samples(), quant_format=form)
        assert prove(target).verdict is PROVEN, form


def test_quantised_dynamically(tmp_path: Path) -> None:
    source, target = models.place(models.tiny(), tmp_path), tmp_path / "quantised.onnx"
    quantize_dynamic(source, target)
    proof = prove(target)
    assert proof.verdict is MIXED
    assert "takes its scale from the smallest and largest value of the whole batch" in proof.because


def test_a_residual_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"first": (8, 3, 3, 3), "a": (8, 8, 3, 3), "b": (8, 8, 3, 3), "last": (8, 10)}
    constants = [numpy_helper.from_array(rng.random(shape, np.float32), name) for name, shape in weights.items()]
    constants += [numpy_helper.from_array(np.ones(8, np.float32), "ones")]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c0", "ones", "ones", "ones", "ones"], ["n0"]),
        helper.make_node("Relu", ["n0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p", "a"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "b"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "p"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "last"], ["y"]),
    ]
    for sizes in ([224, 224], ["H", "W"]):
        graph = helper.make_graph(
            nodes,
            "residual",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *sizes])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        assert proof_of(model.SerializeToString(), tmp_path).verdict is PROVEN


MASKED = """
s = Shape (mask)
zero = Constant <value_int = 0> () one = Constant <value_int = 1> ()
n = Gather (s, zero) steps = Gather (s, one)
rows = Range (zero, n, one) places = Range (zero, steps, one)
inner = Constant <value_ints = [1,2]> () outer = Constant <value_ints = [0,1]> ()
r = Unsqueeze (rows, inner) p = Unsqueeze (places, outer)
"""
"""A mask that is read by addresses, as transformers' exports do since they vectorise masks."""

ATTENTION = """
t = Transpose <perm = [0,2,1]> (x) scores = MatMul (x, t)
masked = Where (kept, scores, low) w = Softmax <axis = -1> (masked) y = MatMul (w, x)
"""


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ("base = Mul (r, steps) i = Add (base, p) flat = Flatten <axis = 2> (mask) g = Gather (flat, i)\n"
         "last = Constant <value_ints = [-1]> () kept = Squeeze (g, last)", PROVEN),
        ("m = Max (r, p) d = Shape (m) rr = Expand (r, d) pp = Expand (p, d)\nlast = Constant <value_ints = [-1]> ()\n"
         "a = Unsqueeze (rr, last) b = Unsqueeze (pp, last) i = Concat <axis = -1> (a, b) kept = GatherND (mask, i)",
         PROVEN),
        ("base = Mul (r, steps) far = Add (p, one) i = Add (base, far) flat = Flatten <axis = 2> (mask)\n"
         "g = Gather (flat, i) last = Constant <value_ints = [-1]> () kept = Squeeze (g, last)", MIXED),
        ("base = Mul (r, one) i = Add (base, p) flat = Flatten <axis = 2> (mask) g = Gather (flat, i)\n"
         "last = Constant <value_ints = [-1]> () kept = Squeeze (g, last)", MIXED),
    ],
    ids=["by places", "by addresses", "a place beyond", "another stride"],
)  # fmt: skip
def test_attention_with_a_mask_that_is_read_by_places(reading: str, expected: Independence, tmp_path: Path) -> None:
    body = f"{MASKED}{reading}\nlow = Constant <value_float = -1000.0> ()\n{ATTENTION}"
    model = text_model("float[N,S,8] x, bool[N,S] mask", "float[N,S,8] y", body)
    proof = proof_of(model, tmp_path)
    assert proof.verdict is expected, proof.because


def test_padding_as_pytorch_exports_it(tmp_path: Path) -> None:
    """The pairs of paddings are turned round in the graph, from the last axis on to from the first one on."""
    body = """
    own = Constant <value_ints = [1, 1]> () more = Constant <value_ints = [4]> ()
    zeros = ConstantOfShape <value = int64[1] {0}> (more) all = Concat <axis = 0> (own, zeros)
    pairs = Constant <value_ints = [-1, 2]> () p = Reshape (all, pairs)
    last = Constant <value_ints = [-1]> () first = Constant <value_ints = [-9223372036854775807]> ()
    axis = Constant <value_ints = [0]> () q = Slice (p, last, first, axis, last)
    r = Transpose <perm = [1, 0]> (q) flat = Reshape (r, last) y = Pad (x, flat)
    """
    proof = proof_of(text_model("float[N,3,4] x", "float[N,3,6] y", body), tmp_path)
    assert proof.verdict is PROVEN, proof.because
