"""Graphs that are huge, deep, circular or broken are unproven, within bounds, and never cause a crash."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.backends.onnx.proof.reading import LARGE_BYTES, read_structure
from sluice.inference.findings import Independence
from tests import models
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model

PROVEN, UNKNOWN = Independence.PROVEN, Independence.UNKNOWN


def test_twenty_thousand_operators(tmp_path: Path) -> None:
    body = "\n".join([f"t{place + 1} = Relu (t{place})" for place in range(20_000)])
    model = text_model("float[N,4] t0", "float[N,4] t20000", body)
    file = models.place(model, tmp_path)
    assert prove(file, limit_s=60).verdict is PROVEN


def test_time_is_bounded(tmp_path: Path) -> None:
    body = "\n".join([f"t{place + 1} = Relu (t{place})" for place in range(500)])
    file = models.place(text_model("float[N,4] t0", "float[N,4] t500", body), tmp_path)
    clock = itertools.count().__next__  # a second for each look at it
    proof = prove(file, limit_s=100, clock=clock)
    assert proof.verdict is UNKNOWN
    assert "took more than 100 s" in proof.because


def test_functions_that_call_one_another_in_a_circle(tmp_path: Path) -> None:
    functions = "\n".join(
        [
            f'<domain: "own", opset_import: ["" : 18, "own" : 1]>\n{name} (v) => (w) {{ w = own.{other} (v) }}'
            for name, other in (("a", "b"), ("b", "a"))
        ]
    )
    model = text_model("float[N] x", "float[N] y", "y = own.a (x)", '"" : 18, "own" : 1', functions)
    proof = proof_of(model, tmp_path)
    assert proof.verdict is UNKNOWN
    assert "deep in one another" in proof.because


def test_functions_that_double_at_each_level(tmp_path: Path) -> None:
    functions = [
        f'<domain: "own", opset_import: ["" : 18, "own" : 1]>\nf{level} (v) => (w) '
        f"{{ u = own.f{level + 1} (v) w = own.f{level + 1} (u) }}"
        for level in range(30)
    ]
    functions.append('<domain: "own", opset_import: ["" : 18]>\nf30 (v) => (w) { w = Relu (v) }')
    model = text_model("float[N] x", "float[N] y", "y = own.f0 (x)", '"" : 18, "own" : 1', "\n".join(functions))
    began_s = time.process_time()
    assert proof_of(model, tmp_path).verdict is UNKNOWN
    assert time.process_time() - began_s < 60  # unbounded, it would take days


def _field(number: int, content: bytes) -> bytes:
    size, encoded = len(content), bytearray()
    while size > 0x7F:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(encoded) + bytes([size]) + content


@pytest.mark.parametrize("levels", [30, 1_000, 3_000])
def test_graphs_deep_in_one_another(levels: int, tmp_path: Path) -> None:
    """Written byte by byte: no library makes a message that is this deep."""
    graph = _field(1, _field(1, b"x") + _field(2, b"y") + _field(4, b"Relu")) + _field(12, _field(1, b"y"))
    for _ in range(levels):
        branch = _field(5, _field(1, b"then_branch") + _field(6, graph))
        graph = _field(1, _field(1, b"x") + _field(2, b"y") + _field(4, b"If") + branch) + _field(12, _field(1, b"y"))
    assert prove(models.place(_field(7, graph), tmp_path)).verdict is not PROVEN


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 100, b"not a model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    assert prove(models.place(content, tmp_path)).verdict is UNKNOWN


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert prove(tmp_path / "model.onnx").verdict is UNKNOWN


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_broken_bytes_are_never_an_exception(tmp_path: Path, data: st.DataObject) -> None:
    model = bytearray(models.texts())[:20_000]
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(model) - 1))
        model[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    prove(models.place(bytes(model), tmp_path), limit_s=5)


def test_weights_are_not_read(tmp_path: Path) -> None:
    weights = np.ones((512, 512), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inside = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(weights))
    graph = helper.make_graph(
        [inside, node, helper.make_node("MatMul", ["x", "c"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 512])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    file = models.place(model, tmp_path)
    assert read_structure(file).ByteSize() < LARGE_BYTES
    assert prove(file).verdict is PROVEN
