"""Graphs that were once proven wrongly: real runs show that their rows change one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sluice.inference.backends.onnx.proof.reading import LARGE_BYTES
from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model, verdict

PROVEN, MIXED, UNKNOWN = Independence.PROVEN, Independence.MIXED, Independence.UNKNOWN

X4, IMAGE = "float[N,4] x", "float[N,3,8,8] x"
PLACES = (
    "s = Shape (x)\nzero = Constant <value_int = 0> ()\nn = Gather (s, zero)\none = Constant <value_int = 1> ()\n"
    "places = Range (zero, n, one)\n"
)
AXES = "a0 = Constant <value_ints = [0]> ()\na1 = Constant <value_ints = [1]> ()\n"
ONCE = "m = Constant <value_int = 1> ()\nt = Constant <value = bool {1}> ()\n"
EACH = "(float[4] v) => (float[4] w) { w = Neg (v) }> (x)"
SIZES = (
    PLACES
    + AXES
    + "hw = Constant <value_ints = [3, 16, 16]> ()\nns = Unsqueeze (n, a0)\nz = Concat <axis = 0> (ns, hw)\n"
)
CUT_OUT = '<coordinate_transformation_mode = "tf_crop_and_resize", mode = "nearest">'

TABLE = {
    "the places of rows, through a loop": (
        X4, PLACES + ONCE + "y = Loop (m, t, places) <body = b (int64 i, bool c, int64[N] v) => (bool k, int64[N] w)"
        " { k = Identity (c) w = Identity (v) }>", MIXED),
    "the places of rows, row by row": (
        X4, PLACES + "y = Scan <num_scan_inputs = 1, body = b (int64 v) => (int64 w) { w = Identity (v) }> (places)",
        MIXED),
    "the places of rows, along another axis": (
        X4, PLACES + AXES + "p = Unsqueeze (places, a1)\ny = Scan <num_scan_inputs = 1, scan_input_axes = [1],"
        " scan_output_axes = [1], body = b (int64[N] v) => (int64[N] w) { w = Identity (v) }> (p)", MIXED),
    "the places of rows, by their own addresses": (
        X4, PLACES + AXES + "p = Unsqueeze (places, a1)\nd = Shape (x)\nq = Expand (p, d)\n"
        "i = ArgMax <axis = 1, keepdims = 1> (x)\ny = GatherND <batch_dims = 1> (q, i)", MIXED),
    "rows that are read backwards": (
        X4, f"y = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = b {EACH}", MIXED),
    "rows that are written backwards": (
        X4, f"y = Scan <num_scan_inputs = 1, scan_output_directions = [1], body = b {EACH}", MIXED),
    "a loop that takes constants in, and reads rows around it": (
        IMAGE, ONCE + "r = Loop (m, t) <body = b (int64 i, bool c) => (bool k, float[3] o)"
        " { l = ReduceMax <keepdims = 0> (x) z = Constant <value_float = -9.0> () k = Greater (l, z)"
        " e = Constant <value_ints = [0, 2, 3]> ()"
        " o = ReduceMean <keepdims = 0> (x, e) }>\nh = Constant <value_ints = [3]> ()\nc = Reshape (r, h)\n"
        "f = Constant <value = float[1,3,1,1] {1,2,3}> ()\ny = Conv (x, f, c)", MIXED),
    "a loop whose last pass leaves another size": (
        "float[N,1] x", ONCE + "f, g = Loop (m, t, x) <body = b (int64 i, bool c, float[N,k] v)"
        " => (bool k, float[N,j] w, float[N,k] u) { k = Identity (c) w = Concat <axis = 1> (v, v) u = Identity (v) }>\n"
        "fs = Shape (f)\n"
        "o = Constant <value_ints = [1]> ()\nl = Gather (fs, o)\nr = Constant <value_ints = [-1]> ()\n"
        "h = Concat <axis = 0> (r, l)\np = Reshape (g, h)\nq = Softmax (p)\ngs = Shape (g)\nd = Reshape (q, gs)\n"
        "e = Constant <value_ints = [0]> ()\ny = ReduceSum <keepdims = 0> (d, e)", UNKNOWN),
    "a number that wraps around": (
        X4, AXES + "b = Constant <value_ints = [4294967297]> ()\nc = Cast <to = 6> (b)\nd = Cast <to = 7> (c)\n"
        "y = Slice (x, a0, d, a0)", MIXED),
    "a sum that wraps around": (
        X4, AXES + "b = Constant <value = int32[1] {2147483647}> ()\nc = Constant <value = int32[1] {2}> ()\n"
        "d = Mul (b, c)\ne = Constant <value = int32[1] {3}> ()\nf = Add (d, e)\ng = Cast <to = 7> (f)\n"
        "y = Slice (x, a0, g, a0)", MIXED),
    "numbers that are equal when they are rounded": (
        X4, "a = Constant <value_int = 2049> ()\nb = Constant <value_int = 2048> ()\nc = Cast <to = 10> (a)\n"
        "d = Cast <to = 10> (b)\ne = Equal (c, d)\ny = If (e) <then_branch = g () => (float[N,4] r)"
        " { r = Softmax <axis = 0> (x) }, else_branch = h () => (float[N,4] q) { q = Relu (x) }>", MIXED),
    "steps as wide as there are rows": (
        X4, PLACES + AXES + "ns = Unsqueeze (n, a0)\ne = Constant <value_ints = [9]> ()\n"
        "p = Slice (x, a0, e, a1, ns)\ny = ReduceSum (p, a1)", MIXED),
    "pictures whose sides are scaled alike, and the batch too": (
        IMAGE, SIZES + 'y = Resize <keep_aspect_ratio_policy = "not_smaller", mode = "nearest"> (x, , , z)', MIXED),
    "parts of pictures that are cut out as there are rows": (
        IMAGE, PLACES + "f = Constant <value = float[4] {1,1,2,2}> ()\nc = Cast <to = 1> (n)\n"
        "b = Constant <value = float[8] {0,0,0,0,1,1,1,1}> ()\nd = Div (b, c)\n"
        f"y = Resize {CUT_OUT} (x, d, f)", MIXED),
    "rows that are cut out": (
        IMAGE, "f = Constant <value = float[4] {1,1,2,2}> ()\nb = Constant <value = float[8] {0.5,0,0,0,1,1,1,1}> ()\n"
        f"y = Resize {CUT_OUT} (x, b, f)", UNKNOWN),
    "every axis of size 1, by a list of none": (
        "float[N,1] x", "a = Constant <value = int64[0] {}> ()\ny = Squeeze (x, a)", MIXED),
    "lengths of other rows": (
        "float[N,6] x, int64[N,2] z", "c = Concat <axis = 0> (x, x)\nf = Constant <value_ints = [-1]> ()\n"
        "l = Reshape (z, f)\nr = ReverseSequence <batch_axis = 0, time_axis = 1> (c, l)\n"
        "g = Constant <value_ints = [2, -1, 6]> ()\nq = Reshape (r, g)\na = Constant <value_ints = [0]> ()\n"
        "y = ReduceSum <keepdims = 0> (q, a)", UNKNOWN),
    "lengths by their places in the batch": (
        X4, "l = Constant <value_ints = [1]> ()\ny = ReverseSequence <batch_axis = 0, time_axis = 1> (x, l)", MIXED),
    "bounds that one row may have, and several may not": ("float[N] x", "b = Neg (x)\ny = Clip (x, b)", MIXED),
    "random numbers": (X4, "y = RandomUniformLike (x)", UNKNOWN),
    "random numbers for all": (X4, "r = RandomUniform <shape = [1]> ()\ny = Add (x, r)", UNKNOWN),
    "elements that are dropped in training": (
        X4, "r = Constant <value_float = 0.5> ()\nt = Constant <value = bool {1}> ()\ny = Dropout (x, r, t)", UNKNOWN),
    "a flag that is neither 0 nor 1": (X4, "y = ReduceMean <noop_with_empty_axes = 2> (x)", UNKNOWN),
    "memory that is left as it is": (
        "int64[N,4] x", "y = Cast <to = 1, saturate = 2> (x)", UNKNOWN),
    "a position for each row": (
        "float[N,1,4] x, int64[N] p", "c = Constant <value = float[2,2] {1,2,3,4}> ()\n"
        "y = com.microsoft.RotaryEmbedding (x, p, c, c)", UNKNOWN),
    "a sum with what has no rows": (
        IMAGE, "f = Constant <value = float[1,3,1,1] {1,2,3}> ()\nz = Constant <value = float[1,1,1,1] {1}> ()\n"
        'y = com.microsoft.FusedConv <activation = "Relu"> (x, f, , z)', UNKNOWN),
    "a sum of tables with what has no rows": (
        X4, "z = Constant <value = float[1,4] {1,2,3,4}> ()\ng = Constant <value = float[4] {1,2,3,4}> ()\n"
        "y = com.microsoft.SkipLayerNormalization (x, z, g)", UNKNOWN),
    "a window with gaps, for which the engine pads": (
        "float[N,1,4,2] x", 'p = LpPool <auto_pad = "SAME_UPPER", dilations = [2, 2], kernel_shape = [2, 2]> (x)\n'
        "s = Constant <value_ints = [-1, 8]> ()\ny = Reshape (p, s)", UNKNOWN),
    "a span that goes backwards from the end": (
        "float[N,1,4] x", "b = Constant <value_ints = [-1]> ()\ne = Constant <value_ints = [2147483647]> ()\n"
        "a = Constant <value_ints = [2]> ()\nt = Constant <value_ints = [-1]> ()\np = Slice (x, b, e, a, t)\n"
        "q = Shape <start = 2> (p)\nz = Constant <value_ints = [0]> ()\ny = Slice (x, q, e, z)", MIXED),
    "the shape of what two branches mix": (
        X4, PLACES + "u = Constant <value_float = 2.0> ()\nv = Sin (u)\nc = Cast <to = 9> (v)\n"
        "z = Constant <value_ints = [1]> ()\np = Unsqueeze (places, z)\n"
        "r = If (c) <then_branch = g () => (int64[N,1] a) { a = Neg (p) },"
        " else_branch = h () => (int64[N,2] b) { q = Neg (p) b = Concat <axis = 1> (q, q) }>\n"
        "s1 = Shape <start = 1> (r)\nk = Sub (s1, z)\ne = Constant <value_ints = [2147483647]> ()\n"
        "o = Constant <value_ints = [0]> ()\ny = Slice (x, k, e, o)", MIXED),
    "the shape of what is joined of what is mixed": (
        X4, PLACES + "p = Neg (places)\nq = Concat <axis = 0> (p, p)\nt = Shape (q)\n"
        "z = Constant <value_ints = [0]> ()\n"
        "b = Shape (p)\no = Constant <value_ints = [1]> ()\nd = Div (t, b)\nj = Sub (d, o)\n"
        "e = Constant <value_ints = [2147483647]> ()\ny = Slice (x, j, e, z)", MIXED),
    "a matrix that the engine turns round, and a vector": (
        X4, "t = Transpose (x)\nu = Relu (t)\nv = Transpose (u)\nc = Constant <value = float[4] {1,2,3,4}> ()\n"
        "y = MatMul (v, c)", UNKNOWN),
    "a matrix that is turned round, and a vector": (
        X4, "t = Transpose (x)\nc = Constant <value = float[4] {1,2,3,4}> ()\n"
        "y = com.microsoft.FusedMatMul <transA = 1> (t, c)", UNKNOWN),
    "a remainder that has the sign of what is divided": (
        "float[N,3,4] x", "c = Constant <value_ints = [-3]> ()\nd = Constant <value_ints = [2]> ()\n"
        "e = Mod <fmod = 1> (c, d)\ng = Constant <value_ints = [1]> ()\nf = Add (e, g)\n"
        "y = ReduceSum <keepdims = 0> (x, f)", UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "expected"), TABLE.values(), ids=TABLE)
def test_what_was_proven_and_is_not_so(inputs: str, body: str, expected: Independence, tmp_path: Path) -> None:
    domains = '"" : 19, "ai.onnx.ml" : 3, "com.microsoft" : 1'
    assert verdict(tmp_path, inputs, body, domains=domains) is expected


@pytest.mark.parametrize("domain", ["", "ai.onnx", "com.microsoft"])
def test_the_engine_prefers_its_operator_to_a_function_of_its_name(domain: str, tmp_path: Path) -> None:
    function = f'<domain: "{domain}", opset_import: ["" : 18]>\nSoftmax (v) => (w) {{ w = Relu (v) }}'
    called = f"{domain}.Softmax" if domain else "Softmax"
    model = text_model(X4, "float[N,4] y", f"y = {called} <axis = 0> (x)", functions=function)
    assert proof_of(model, tmp_path).verdict is UNKNOWN


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@pytest.mark.parametrize(("model", "function", "expected"), [(12, 18, UNKNOWN), (18, 12, UNKNOWN), (18, 18, PROVEN)])
def test_the_engine_follows_functions_by_the_versions_of_the_model(
    model: int, function: int, expected: Independence, domain: str, tmp_path: Path
) -> None:
    """Softmax normalises over all axes from its own on before version 13, and over that one alone since then."""
    body = "t = Transpose <perm = [1, 2, 0]> (x)\nu = own.f (t)\ny = Transpose <perm = [2, 0, 1]> (u)"
    own = f'<domain: "own", opset_import: ["{domain}" : {function}]>\nf (v) => (w) {{ w = Softmax <axis = 1> (v) }}'
    written = text_model("float[N,2,3] x", "float[N,2,3] y", body, f'"" : {model}, "own" : 1', own)
    assert proof_of(written, tmp_path).verdict is expected


def test_a_function_called_identity_may_hand_on_something_else(tmp_path: Path) -> None:
    body = (
        "z = Constant <value = float[4] {0,0,0,0}> ()\n"
        "l, y = Scan <num_scan_inputs = 1, body = b (float[4] s, float[4] v) => (float[4] r, float[4] w)"
        " { q = Add (s, v) r = own.Identity (s, q) w = Identity (q) }> (z, x)"
    )
    own = '<domain: "own", opset_import: ["" : 18]>\nIdentity (v, u) => (w) { w = Identity (u) }'
    model = text_model(X4, "float[N,4] y", body, '"" : 18, "own" : 1', own)
    assert proof_of(model, tmp_path).verdict is MIXED


@pytest.mark.parametrize("first", [0, 1])
def test_a_tensor_that_is_given_twice(first: int, tmp_path: Path) -> None:
    """The engine takes one of them, and says that it does."""
    model = _summed([("axes", first), ("axes", 1 - first)])
    assert proof_of(model, tmp_path).verdict is UNKNOWN


def test_a_filler_that_is_too_large_to_be_read(tmp_path: Path) -> None:
    filler = "b" * 2 * LARGE_BYTES
    body = (
        f't = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "{filler}", separators = [" "]> (x)\n'
        'y = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0,'
        f' ngram_counts = [0], ngram_indexes = [0, 1], pool_strings = ["a", "{filler}"]> (t)'
    )
    assert verdict(tmp_path, "string[N] x", body) is UNKNOWN


def _summed(axes: list[tuple[str, int]], *, external: bool = False) -> bytes:
    """The sums of a table along an axis that stands in the file."""
    stored = [numpy_helper.from_array(np.array([axis], np.int64), name) for name, axis in axes]
    if external:
        for tensor in stored:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="axes.bin")
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return made


def test_a_list_that_is_too_large_to_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    many = LARGE_BYTES
    nodes = [
        helper.make_node("Constant", [], ["c"], value_ints=[2] * many),
        helper.make_node("Shape", ["c"], ["n"]),
        helper.make_node("Slice", ["x", "zero", "n", "zero"], ["p"]),
        helper.make_node("Slice", ["x", "n", "end", "zero"], ["y"]),  # of no rows, were the list empty: of all of them
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([value], np.int64), name) for name, value in (("zero", 0), ("end", 2**62))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    assert proof_of(model, tmp_path).verdict is not PROVEN


def test_what_stands_beside_external_data_is_not_its_content(tmp_path: Path) -> None:
    """The engine reads the other file, whatever else the tensor has."""
    assert proof_of(_summed([("axes", 1)]), tmp_path).verdict is PROVEN
    assert proof_of(_summed([("axes", 1)], external=True), tmp_path).verdict is UNKNOWN
