"""The models that the examples of Triton's Python client call, by their names and signatures, for the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.models import IR_VERSION, OPSET, place

PICTURE = """
[input.pixels.image]
std = [0.5, 0.5, 0.5]

[labels]
scores = ["dark", "red", "green", "blue"]
"""


def place_all(root: Path) -> Path:
    """A repository with everything of it that can be served."""
    place(sums(TensorProto.INT32), root / "simple" / "1")
    place(sums(TensorProto.INT8), root / "simple_int8" / "1")
    place(sums_of_texts(), root / "simple_string" / "1")
    place(same(TensorProto.STRING), root / "simple_identity" / "1")
    place(same(TensorProto.INT32), root / "custom_identity_int32" / "1")
    place(one_picture(), root / "densenet_onnx" / "1")
    place(pictures("NCHW"), root / "inception" / "1")
    place(pictures("NHWC"), root / "inception_nhwc" / "1")
    for name in ("inception", "inception_nhwc"):
        (root / name / "model.toml").write_text(PICTURE)
    return root


def sums(element: int) -> bytes:
    """`INPUT0` and `INPUT1` [N,16] -> `OUTPUT0` and `OUTPUT1`: sum and difference."""
    wide = TensorProto.INT32
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=wide),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=wide),
        *_sum_and_difference("a", "b", element),
    ]
    return _model(nodes, {"INPUT0": element, "INPUT1": element}, {"OUTPUT0": element, "OUTPUT1": element})


def sums_of_texts() -> bytes:
    """The same with numbers written as texts."""
    text = TensorProto.STRING
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=TensorProto.INT32),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=TensorProto.INT32),
        *_sum_and_difference("a", "b", text),
    ]
    return _model(nodes, {"INPUT0": text, "INPUT1": text}, {"OUTPUT0": text, "OUTPUT1": text})


def same(element: int) -> bytes:
    """`INPUT0` [N,16] -> `OUTPUT0`, the same."""
    return _model([helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])], {"INPUT0": element}, {"OUTPUT0": element})


def one_picture() -> bytes:
    """float32[3,224,224] `data_0`, without a batch axis -> float32[3] `fc6_1`: the mean of each channel."""
    taken = helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [3, 224, 224])
    given = helper.make_tensor_value_info("fc6_1", TensorProto.FLOAT, [3])
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    node = helper.make_node("ReduceMean", ["data_0", "axes"], ["fc6_1"], keepdims=0)
    return _saved(helper.make_graph([node], "one_picture", [taken], [given], [axes]))


def pictures(layout: str) -> bytes:
    """float32 `pixels` of 24 by 16 in a layout -> float32[N,4] `scores`: -1, and the means of red, green and blue."""
    shape: Any = {"NCHW": ["N", 3, 24, 16], "NHWC": ["N", 24, 16, 3]}[layout]
    taken = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])
    sides = [layout.index("H"), layout.index("W")]
    constants = [
        numpy_helper.from_array(np.array(sides, np.int64), "sides"),
        numpy_helper.from_array(np.eye(3, 4, 1, np.float32), "one_later"),
        numpy_helper.from_array(np.array([-1, 0, 0, 0], np.float32), "first"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "sides"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "one_later", "first"], ["scores"]),
    ]
    return _saved(helper.make_graph(nodes, "pictures", [taken], [given], constants))


def _sum_and_difference(one: str, other: str, element: int) -> list[Any]:
    return [
        helper.make_node("Add", [one, other], ["sum"]),
        helper.make_node("Sub", [one, other], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=element),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=element),
    ]


def _model(nodes: list[Any], taken: dict[str, int], given: dict[str, int]) -> bytes:
    inputs = [helper.make_tensor_value_info(name, element, ["N", 16]) for name, element in taken.items()]
    outputs = [helper.make_tensor_value_info(name, element, ["N", 16]) for name, element in given.items()]
    return _saved(helper.make_graph(nodes, "triton", inputs, outputs))


def _saved(graph: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    saved: bytes = model.SerializeToString()
    return saved
