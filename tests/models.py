"""Builders of small ONNX models, as bytes. Weights come from fixed seeds: every build of a model is the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sluice.inference.types import Array, Datatype

OPSET = 21
ML = "ai.onnx.ml"
ML_OPSET = 3
IR_VERSION = 10

ELEMENT_TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}

HALVES = ((64, 64), (64, 10))

Axes = Sequence[int | str | None] | None


def place(model: bytes, folder: Path, name: str = "model.onnx") -> Path:
    """The model as a file in the folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(model)
    return file


def tiny() -> bytes:
    """float32[N,4] `x` -> float32[N,3] `y`: a linear layer and softmax."""
    weights = _random(1, (4, 3))
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    return _model(nodes, [_floats("x", ["N", 4])], [_floats("y", ["N", 3])], {"weights": weights})


def linear() -> bytes:
    """float32[N,1] `x` -> float32[N,1] `y` = 2x - 1."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["double"]), helper.make_node("Sub", ["double", "one"], ["y"])]
    constants = {"two": np.array([2], np.float32), "one": np.array([1], np.float32)}
    return _model(nodes, [_floats("x", ["N", 1])], [_floats("y", ["N", 1])], constants)


def mlp() -> bytes:
    """float32[N,64] `x` -> float32[N,10] `y` by two hidden layers of 2048, so that batching pays."""
    sizes = (64, 2048, 2048, 10)
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    value = "x"
    for layer, (taken, given) in enumerate(pairwise(sizes)):
        weights[f"w{layer}"] = _random(layer, (taken, given)) / np.float32(np.sqrt(taken))
        weights[f"b{layer}"] = _random(10 + layer, (given,))
        out = "y" if given == sizes[-1] else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}" if out != "y" else "y"]))
        if out != "y":
            nodes.append(helper.make_node("Relu", [f"z{layer}"], [out]))
        value = out
    return _model(nodes, [_floats("x", ["N", 64])], [_floats("y", ["N", 10])], weights)


def image() -> bytes:
    """float32[N,3,224,224] `image` -> float32[N,10] `y` by a small convolutional network."""
    weights = {"k1": _random(1, (8, 3, 5, 5)), "k2": _random(2, (16, 8, 3, 3)), "w": _random(3, (16, 10))}
    nodes = [
        helper.make_node("Conv", ["image", "k1"], ["c1"], strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    return _model(nodes, [_floats("image", ["N", 3, 224, 224])], [_floats("y", ["N", 10])], weights)


def corner() -> bytes:
    """float32[N,3,224,224] `x` -> float32[N,3] `y`, the first value of each channel: next to no work."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["row"], axis=3),
        helper.make_node("Gather", ["row", "first"], ["y"], axis=2),
    ]
    return _model(nodes, [_floats("x", ["N", 3, 224, 224])], [_floats("y", ["N", 3])], {"first": np.array(0, np.int64)})


def identity(datatype: Datatype, axes: Axes = ("N", 3)) -> bytes:
    """`x` -> `y`, the same, of any datatype and shape."""
    element = ELEMENT_TYPES[datatype]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return _model(nodes, [_value("x", element, axes)], [_value("y", element, axes)])


def strings() -> bytes:
    """BYTES[N] `x` -> BYTES[N] `y`, the same."""
    return identity(Datatype.BYTES, ["N"])


def two_in_two_out() -> bytes:
    """float32[N,4] `a`, int64[N,2] `b` -> int64[N,2] `b_plus_one`, float32[N,4] `a_doubled`."""
    nodes = [
        helper.make_node("Add", ["b", "one"], ["b_plus_one"]),
        helper.make_node("Add", ["a", "a"], ["a_doubled"]),
    ]
    return _model(
        nodes,
        [_floats("a", ["N", 4]), _value("b", TensorProto.INT64, ["N", 2])],
        [_value("b_plus_one", TensorProto.INT64, ["N", 2]), _floats("a_doubled", ["N", 4])],
        {"one": np.array([1], np.int64)},
    )


def fixed_rows(rows: int = 1) -> bytes:
    """float32[rows,4] `x` -> float32[rows,4] `y` = 2x: the first axis is fixed, so the model is not batched."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return _model(nodes, [_floats("x", [rows, 4])], [_floats("y", [rows, 4])])


def scalar() -> bytes:
    """float32[] `x` -> float32[] `y` = 2x: no axis at all."""
    return _model([helper.make_node("Add", ["x", "x"], ["y"])], [_floats("x", [])], [_floats("y", [])])


def any_width() -> bytes:
    """float32[N,W] `x` -> float32[N] `sum` over each row of any width."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0)]
    return _model(nodes, [_floats("x", ["N", "W"])], [_floats("sum", ["N"])], {"axes": np.array([1], np.int64)})


def widened(columns: int) -> bytes:
    """float32[N,1] `x` -> float32[N,columns] `y`: each value repeated, so that a small input has a large output."""
    nodes = [helper.make_node("Tile", ["x", "repeats"], ["y"])]
    constants = {"repeats": np.array([1, columns], np.int64)}
    return _model(nodes, [_floats("x", ["N", 1])], [_floats("y", ["N", columns])], constants)


def repeated() -> bytes:
    """float32[N,1] `x`, int64[2] `repeats` -> float32[...] `y`: the size of the output is the caller's choice."""
    nodes = [helper.make_node("Tile", ["x", "repeats"], ["y"])]
    inputs = [_floats("x", ["N", 1]), _value("repeats", TensorProto.INT64, [2])]
    return _model(nodes, inputs, [_floats("y", ["M", "W"])])


def nonzero() -> bytes:
    """float32[N,3] `x` -> int64[M,2] `places` of what is not zero: declared like rows, which axis 0 does not follow."""
    nodes = [helper.make_node("NonZero", ["x"], ["columns"]), helper.make_node("Transpose", ["columns"], ["places"])]
    return _model(nodes, [_floats("x", ["N", 3])], [_value("places", TensorProto.INT64, ["M", 2])])


def drops_negative_rows(axis: str = "M") -> bytes:
    """float32[N,1] `x` -> float32[axis,1] `y`, the rows that are not negative: all of them if they are zeros."""
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["kept"]),
        helper.make_node("Squeeze", ["kept", "axes"], ["mask"]),
        helper.make_node("Compress", ["x", "mask"], ["y"], axis=0),
    ]
    constants: dict[str, Array] = {"zero": np.array([0], np.float32), "axes": np.array([1], np.int64)}
    return _model(nodes, [_floats("x", ["N", 1])], [_floats("y", [axis, 1])], constants)


def one_row_only() -> bytes:
    """float32[N,4] `x` -> float32[N,W] `y`, declared for any rows, but a Reshape inside takes exactly one.

    Its target is computed from `x`, so that the engine finds out only when it runs.
    """
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Cast", ["zero"], ["nothing"], to=TensorProto.INT64),
        helper.make_node("Add", ["one_row", "nothing"], ["shape"]),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"one_row": np.array([1, 4], np.int64)}
    return _model(nodes, [_floats("x", ["N", 4])], [_floats("y", ["M", "W"])], constants)


def centred() -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y` = x less the mean of all rows: declared batched, but rows mix."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return _model(nodes, [_floats("x", ["N", 2])], [_floats("y", ["N", 2])], {"axes": np.array([0], np.int64)})


def boxes_and_mixed_scores() -> bytes:
    """float32[N,2] `x` -> float32[N,4] `y`: two large values, and two small ones in which rows mix."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Sigmoid", ["centred"], ["scores"]),
        helper.make_node("Mul", ["x", "thousand"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "scores"], ["y"], axis=1),
    ]
    constants: dict[str, Array] = {"axes": np.array([0], np.int64), "thousand": np.array([1000], np.float32)}
    return _model(nodes, [_floats("x", ["N", 2])], [_floats("y", ["N", 4])], constants)


def transposed_in_between() -> bytes:
    """float32[N,L] `x` -> float32[N,L] `y`, the same elements in the order of the columns: rows mix if L is above 1."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
        helper.make_node("Reshape", ["columns", "shape"], ["y"]),
    ]
    return _model(nodes, [_floats("x", ["N", "L"])], [_floats("y", ["N", "L"])])


def softmax_over_rows() -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y`, a softmax along the wrong axis: declared batched, but rows mix."""
    nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=0)]
    return _model(nodes, [_floats("x", ["N", 2])], [_floats("y", ["N", 2])])


def mixes_late() -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y`: `x` itself, but the mean of all rows where `x` is above 50."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Greater", ["x", "fifty"], ["large"]),
        helper.make_node("Where", ["large", "mean", "x"], ["y"]),
    ]
    constants: dict[str, Array] = {"axes": np.array([0], np.int64), "fifty": np.array([50], np.float32)}
    return _model(nodes, [_floats("x", ["N", 2])], [_floats("y", ["N", 2])], constants)


def half_precision() -> bytes:
    """float32[N,64] `x` -> int64[N] `label`, float32[N,10] `y`: two layers computed in float16."""
    weights = {f"w{layer}": (_random(layer, shape) / 8).astype(np.float16) for layer, shape in enumerate(HALVES)}
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["x16", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y16"]),
        helper.make_node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["y16"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [_value("label", TensorProto.INT64, ["N"]), _floats("y", ["N", 10])]
    return _model(nodes, [_floats("x", ["N", 64])], outputs, weights)


def noisy() -> bytes:
    """float32[N,2] `x` -> float32[N,2] `y` = x plus random noise: no two answers are the same."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    return _model(nodes, [_floats("x", ["N", 2])], [_floats("y", ["N", 2])])


def shapeless() -> bytes:
    """float32 `x` of undeclared shape -> float32 `y` = 2x."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return _model(nodes, [_value("x", TensorProto.FLOAT, None)], [_value("y", TensorProto.FLOAT, None)])


def bfloat16_and_text() -> bytes:
    """bfloat16[N] `x`, BYTES[N] `t` -> both, the same."""
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
    inputs = [_value("x", TensorProto.BFLOAT16, ["N"]), _value("t", TensorProto.STRING, ["N"])]
    outputs = [_value("y", TensorProto.BFLOAT16, ["N"]), _value("u", TensorProto.STRING, ["N"])]
    return _model(nodes, inputs, outputs)


def external_weights(location: str) -> bytes:
    """float32[N,1] `x` -> float32[N,2] `y` = x times the two weights in the file of that name beside the model."""
    model = onnx.load_from_string(
        _model(
            [helper.make_node("MatMul", ["x", "weights"], ["y"])],
            [_floats("x", ["N", 1])],
            [_floats("y", ["N", 2])],
            {"weights": np.array([[2, 3]], np.float32)},
        )
    )
    weights = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weights, location, offset=0, length=8)
    weights.ClearField("raw_data")
    serialized: bytes = model.SerializeToString()
    return serialized


def loop() -> bytes:
    """float32[N,1] `x`, int64[N,1] `steps` -> float32[N,1] `y` = x plus `steps`, counted up one by one.

    Slow or endless at will: 2**62 steps do not end, and hold the worker until it is killed.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Less", ["step", "steps"], ["counts"]),
            helper.make_node("Cast", ["counts"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["sum_in", "one"], ["sum_out"]),
        ],
        "body",
        [
            _value("step", TensorProto.INT64, []),
            _value("go_in", TensorProto.BOOL, []),
            _value("sum_in", TensorProto.FLOAT, ["N", 1]),
        ],
        [_value("go_out", TensorProto.BOOL, []), _value("sum_out", TensorProto.FLOAT, ["N", 1])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["steps"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "go", "x"], ["y"], body=body),
    ]
    constants: dict[str, Array] = {"go": np.array(True)}
    inputs = [_floats("x", ["N", 1]), _value("steps", TensorProto.INT64, ["N", 1])]
    return _model(nodes, inputs, [_floats("y", ["N", 1])], constants)


def divide() -> bytes:
    """int64[N,1] `x`, int64[N,1] `by` -> int64[N,1] `y` = x / by, which ends its process by SIGFPE for -2**63 / -1.

    The engine refuses to divide by zero, and does not look for the one quotient that does not fit.
    """
    inputs = [_value(name, TensorProto.INT64, ["N", 1]) for name in ("x", "by")]
    return _model([helper.make_node("Div", ["x", "by"], ["y"])], inputs, [_value("y", TensorProto.INT64, ["N", 1])])


def spread() -> bytes:
    """float32[N,1] `x`, int64[N,1] `size` -> float32[N,1] `y` = x times the largest size, added up one by one.

    It holds `size` numbers at once: as much memory as its input says.
    """
    nodes = [
        helper.make_node("ReduceMax", ["size"], ["most"], keepdims=0),
        helper.make_node("Unsqueeze", ["most", "first"], ["width"]),
        helper.make_node("Concat", ["one", "width"], ["shape"], axis=0),
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide", "columns"], ["y"], keepdims=1),
    ]
    constants: dict[str, Array] = {"first": np.array([0]), "one": np.array([1]), "columns": np.array([1])}
    inputs = [_floats("x", ["N", 1]), _value("size", TensorProto.INT64, ["N", 1])]
    return _model(nodes, inputs, [_floats("y", ["N", 1])], constants)


def lookup(entries: int = 5) -> bytes:
    """int64[N] `index` -> float32[N,2] `y`: an index outside [-entries, entries) fails, and fails its whole batch."""
    table = np.arange(2 * entries, dtype=np.float32).reshape(entries, 2)
    nodes = [helper.make_node("Gather", ["table", "index"], ["y"])]
    return _model(nodes, [_value("index", TensorProto.INT64, ["N"])], [_floats("y", ["N", 2])], {"table": table})


def sequence_output() -> bytes:
    """float32[N] `x` -> a sequence of as many tensors, which no request can carry."""
    nodes = [helper.make_node("SplitToSequence", ["x"], ["y"])]
    return _model(nodes, [_floats("x", ["N"])], [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)])


def sequence_input() -> bytes:
    """A sequence of float32 tensors `x` -> int64[] `y`, how many there are."""
    nodes = [helper.make_node("SequenceLength", ["x"], ["y"])]
    taken = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    return _model(nodes, [taken], [_value("y", TensorProto.INT64, [])])


def optional_input() -> bytes:
    """float32[N], or nothing, `x` -> bool[] `y`, whether it is there."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])
    taken = helper.make_value_info("x", helper.make_optional_type_proto(tensor))
    return _model([helper.make_node("OptionalHasElement", ["x"], ["y"])], [taken], [_value("y", TensorProto.BOOL, [])])


def map_input() -> bytes:
    """A map from words to numbers `x` -> float32[1,2] `y`, the numbers of two words."""
    nodes = [helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, string_vocabulary=["a", "b"])]
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    taken = helper.make_value_info("x", helper.make_map_type_proto(TensorProto.STRING, value))
    return _model(nodes, [taken], [_floats("y", [1, 2])])


def texts(tokens: int = 50) -> bytes:
    """int64[N,L] `ids`, int64[N,L] `mask` -> float32[N,L,2] `logits` of each token, float32[N,2] `pooled`.

    `pooled` is the sum over the tokens that the mask keeps. Every value is a whole number, so that sums are exact.
    """
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["logits"]),
        helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["weights"]),
        helper.make_node("Mul", ["logits", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "along"], ["pooled"], keepdims=0),
    ]
    constants: dict[str, Array] = {
        "table": np.arange(1, 2 * tokens + 1, dtype=np.float32).reshape(tokens, 2),
        "last": np.array([2], np.int64),
        "along": np.array([1], np.int64),
    }
    inputs = [_value(name, TensorProto.INT64, ["N", "L"]) for name in ("ids", "mask")]
    return _model(nodes, inputs, [_floats("logits", ["N", "L", 2]), _floats("pooled", ["N", 2])], constants)


def token_vectors(tokens: int = 50, width: int = 128) -> bytes:
    """int64[N,L] `input_ids`, int64[N,L] `attention_mask` -> float32[N,L,width] `vectors`, by two hidden layers."""
    weights = {
        "table": _random(1, (tokens, width)),
        "up": _random(2, (width, 4 * width)) / np.float32(np.sqrt(width)),
        "down": _random(3, (4 * width, width)) / np.float32(np.sqrt(4 * width)),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "up"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", "down"], ["narrow"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["weights"]),
        helper.make_node("Mul", ["narrow", "weights"], ["vectors"]),
    ]
    inputs = [_value(name, TensorProto.INT64, ["N", "L"]) for name in ("input_ids", "attention_mask")]
    return _model(nodes, inputs, [_floats("vectors", ["N", "L", width])], weights)


def _random(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _floats(name: str, axes: Axes) -> Any:
    return _value(name, TensorProto.FLOAT, axes)


def _value(name: str, element: int, axes: Axes) -> Any:
    return helper.make_tensor_value_info(name, element, axes)


def _model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: dict[str, Array] | None = None
) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == ML for node in nodes):
        opsets.append(helper.make_opsetid(ML, ML_OPSET))
    serialized: bytes = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets).SerializeToString()
    return serialized
