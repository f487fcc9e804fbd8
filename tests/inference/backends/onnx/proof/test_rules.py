"""What the proof says about each kind of operator: when it keeps rows apart, and when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model, verdict

PROVEN, MIXED, UNKNOWN = Independence.PROVEN, Independence.MIXED, Independence.UNKNOWN

X4, X34, IMAGE = "float[N,4] x", "float[N,3,4] x", "float[N,3,8,8] x"
SHAPE = "s = Shape (x)\nzero = Constant <value_int = 0> ()\nn = Gather (s, zero)\n"
ROW_PLACES = SHAPE + "one = Constant <value_int = 1> ()\nplaces = Range (zero, n, one)\n"

TABLE = [
    # element by element
    (X4, "y = Relu (x)", PROVEN),
    (X4, "c = Constant <value = float[4] {1,2,3,4}> ()\ny = Add (x, c)", PROVEN),
    (X4, "c = Constant <value = float[3,1] {1,2,3}> ()\ny = Add (x, c)", MIXED),
    (X4, "t = Transpose <perm = [1,0]> (x)\nc = Constant <value_float = 1.0> ()\ny = Mul (t, c)", MIXED),
    (X34, "t = Transpose <perm = [1,0,2]> (x)\nu = Relu (t)\ny = Transpose <perm = [1,0,2]> (u)", PROVEN),
    (X4, "t = Transpose (x)\ny = Add (x, t)", MIXED),
    # the size of the batch
    (X4, SHAPE + "f = Cast <to = 1> (n)\ny = Div (x, f)", MIXED),
    (X4, ROW_PLACES + "f = Cast <to = 1> (places)\na = Constant <value_ints = [1]> ()\n"
     "c = Unsqueeze (f, a)\ny = Mul (x, c)", MIXED),
    (X4, SHAPE + "z = ConstantOfShape (s)\ny = Add (x, z)", PROVEN),
    (X4, SHAPE + "one = Constant <value_int = 1> ()\nb = Equal (n, one)\n"
     "y = If (b) <then_branch = g () => (float[N,4] a) { a = Neg (x) },"
     " else_branch = h () => (float[N,4] b2) { b2 = Relu (x) }>", MIXED),
    # axes taken together
    (X4, "y = Softmax <axis = -1> (x)", PROVEN),
    (X4, "y = Softmax <axis = 0> (x)", MIXED),
    (X34, "y = Softmax <axis = -3> (x)", MIXED),
    (X4, "a = Constant <value_ints = [1]> ()\ny = ReduceSum <keepdims = 0> (x, a)", PROVEN),
    (X4, "a = Constant <value_ints = [-2]> ()\ny = ReduceSum <keepdims = 1> (x, a)", MIXED),
    (X4, "y = ReduceMean (x)", MIXED),
    (X4, "y = ReduceSum <noop_with_empty_axes = 1> (x)", PROVEN),
    (X4, "y = ArgMax <axis = 1, keepdims = 0> (x)", PROVEN),
    (X4, "y = ArgMax (x)", MIXED),
    (X4, "a = Constant <value_int = 0> ()\ny = CumSum (x, a)", MIXED),
    (X4, "a = Constant <value_int = 1> ()\ny = CumSum (x, a)", PROVEN),
    (X34, "c = Constant <value = float[4] {1,2,3,4}> ()\ny = LayerNormalization <axis = -1> (x, c)", PROVEN),
    (X4, "c = Constant <value = float[1,4] {1,2,3,4}> ()\ny = LayerNormalization <axis = 0> (x, c)", MIXED),
    (IMAGE, "y = MeanVarianceNormalization (x)", MIXED),
    (IMAGE, "y = MeanVarianceNormalization <axes = [2,3]> (x)", PROVEN),
    (IMAGE, "c = Constant <value = float[3] {1,2,3}> ()\ny = BatchNormalization (x, c, c, c, c)", PROVEN),
    (IMAGE, "c = Constant <value = float[3] {1,2,3}> ()\n"
     "y, m, v = BatchNormalization <training_mode = 1> (x, c, c, c, c)", MIXED),
    # matrices
    (X4, "w = Constant <value = float[4,2] {1,2,3,4,5,6,7,8}> ()\ny = MatMul (x, w)", PROVEN),
    (X4, "w = Constant <value = float[2,4] {1,2,3,4,5,6,7,8}> ()\ny = Gemm <transB = 1> (x, w)", PROVEN),
    (X4, "t = Transpose (x)\ny = MatMul (x, t)", MIXED),
    (X4, "t = Transpose (x)\ng = MatMul (t, x)\ny = MatMul (x, g)", MIXED),
    (X34, "t = Transpose <perm = [0,2,1]> (x)\ny = MatMul (x, t)", PROVEN),
    (X4, 'y = Einsum <equation = "ij,ij->ij"> (x, x)', PROVEN),
    (X4, 'y = Einsum <equation = "ij,kj->ik"> (x, x)', MIXED),
    # pictures
    (IMAGE, "k = Constant <value = float[1,3,1,1] {1,2,3}> ()\ny = Conv (x, k)", PROVEN),
    (IMAGE, "t = Transpose <perm = [1,0,2,3]> (x)\ny = GlobalAveragePool (t)", MIXED),
    (IMAGE, "p, i = MaxPool <kernel_shape = [2,2]> (x)\ny = Identity (p)", PROVEN),
    (IMAGE, "p, y = MaxPool <kernel_shape = [2,2]> (x)", MIXED),
    (IMAGE, "f = Constant <value = float[4] {1,1,2,2}> ()\ny = Resize (x, , f)", PROVEN),
    (IMAGE, "f = Constant <value = float[4] {2,1,1,1}> ()\ny = Resize (x, , f)", MIXED),
    # shapes
    (X34, "t = Constant <value_ints = [0,-1]> ()\ny = Reshape (x, t)", PROVEN),
    (X34, "t = Constant <value_ints = [-1,4]> ()\nu = Reshape (x, t)\nv = Constant <value_ints = [-1,3,4]> ()\n"
     "y = Reshape (u, v)", PROVEN),
    (X34, "t = Constant <value_ints = [-1,4]> ()\ny = Reshape (x, t)", MIXED),
    (X34, "t = Constant <value_ints = [-1,24]> ()\ny = Reshape (x, t)", UNKNOWN),
    (X34, "y = Flatten <axis = 1> (x)", PROVEN),
    (X34, "y = Flatten <axis = 0> (x)", MIXED),
    ("float[N,1] x", "y = Squeeze (x)", MIXED),
    ("float[N,1] x", "a = Constant <value_ints = [1]> ()\ny = Squeeze (x, a)", PROVEN),
    # picked, joined, sorted
    (X4, "i = Constant <value_ints = [0,2]> ()\ny = Gather <axis = 1> (x, i)", PROVEN),
    (X4, "i = Constant <value_int = 0> ()\ny = Gather <axis = 0> (x, i)", MIXED),
    ("int64[N,3] x", "c = Constant <value = float[4,2] {1,2,3,4,5,6,7,8}> ()\ny = Gather (c, x)", PROVEN),
    (X4, "y = Concat <axis = 1> (x, x)", PROVEN),
    (X4, "y = Concat <axis = 0> (x, x)", MIXED),
    (X4, "b = Constant <value_ints = [1]> ()\ne = Constant <value_ints = [9]> ()\n"
     "a = Constant <value_ints = [0]> ()\ny = Slice (x, b, e, a)", MIXED),
    (X4, "b = Constant <value_ints = [1]> ()\ne = Constant <value_ints = [9]> ()\n"
     "a = Constant <value_ints = [1]> ()\ny = Slice (x, b, e, a)", PROVEN),
    (X4, "y = NonZero (x)", MIXED),
    (X4, "y, i, v, c = Unique (x)", MIXED),
    (X4, "k = Constant <value_ints = [2]> ()\ny, i = TopK <axis = -1> (x, k)", PROVEN),
    (X4, "k = Constant <value_ints = [1]> ()\ny, i = TopK <axis = 0> (x, k)", MIXED),
    (X4, "p = Constant <value_ints = [0,1,0,1]> ()\ny = Pad (x, p)", PROVEN),
    (X4, "p = Constant <value_ints = [1,0,0,0]> ()\ny = Pad (x, p)", MIXED),
    (X4, "r = Constant <value_ints = [1,2]> ()\ny = Tile (x, r)", PROVEN),
    (X4, "r = Constant <value_ints = [2,1]> ()\ny = Tile (x, r)", MIXED),
    # numbers of few bits
    (X4, "a = Constant <value_float = 0.1> ()\nq = QuantizeLinear (x, a)\ny = DequantizeLinear (q, a)", PROVEN),
    (X4, "a = Constant <value = float[3,2] {1,2,3,4,5,6}> ()\n"
     "y = QuantizeLinear <block_size = 2, output_dtype = 5> (x, a)",
     MIXED),
    (X4, "c = Constant <value = int64[3] {1,2,3}> ()\ny = ReverseSequence <batch_axis = 0, time_axis = 1> (x, c)",
     MIXED),
    (X4, SHAPE + "a = Constant <value_ints = [0]> ()\nt = Unsqueeze (n, a)\n"
     "c = ConstantOfShape <value = int64[1] {2}> (t)\n"
     "y = ReverseSequence <batch_axis = 0, time_axis = 1> (x, c)", PROVEN),
    (X4, "q, a, z = DynamicQuantizeLinear (x)\ny = DequantizeLinear (q, a, z)", MIXED),
    # recurrent
    ("float[N,5,2] x", "t = Transpose <perm = [1,0,2]> (x)\nw = Constant <value = float[1,1,2] {1,2}> ()\n"
     "r = Constant <value = float[1,1,1] {1}> ()\nh, l = RNN <hidden_size = 1> (t, w, r)\n"
     "a = Constant <value_ints = [0]> ()\ny = Squeeze (l, a)", PROVEN),
    ("float[N,5,2] x", "w = Constant <value = float[1,1,2] {1,2}> ()\nr = Constant <value = float[1,1,1] {1}> ()\n"
     "y, l = RNN <hidden_size = 1> (x, w, r)", MIXED),
    # texts
    ("string[N] x", 'w, y = StringSplit <delimiter = " "> (x)', PROVEN),
    ("string[N] x", 'y, c = StringSplit <delimiter = " "> (x)', MIXED),
    ("string[N] x", 'y = StringNormalizer <case_change_action = "LOWER"> (x)', PROVEN),
    ("string[N] x", 'y = StringNormalizer <stopwords = ["a"]> (x)', MIXED),
    # trees and their neighbours
    (X4, 'y = ai.onnx.ml.Normalizer <norm = "L2"> (x)', PROVEN),
    (X4, "y = ai.onnx.ml.Scaler <offset = [0.0], scale = [2.0]> (x)", PROVEN),
    # the rows' places
    (X34, ROW_PLACES + "a = Constant <value_ints = [1]> ()\np = Unsqueeze (places, a)\n"
     "z = Constant <value = int64[1,1] {2}> ()\nd = Shape (p)\ne = Expand (z, d)\n"
     "i = Concat <axis = 1> (p, e)\ny = GatherND (x, i)", PROVEN),
    (X34, "i = Constant <value = int64[1,1] {0}> ()\ny = GatherND (x, i)", MIXED),
    # what is not known
    (X4, "y = com.microsoft.NoSuchOperator (x)", UNKNOWN),
    (X4, "z = com.microsoft.NoSuchOperator (x)\ny = Relu (x)", PROVEN),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "expected"), TABLE, ids=[body for _, body, _ in TABLE])
def test_each_operator_says_what_it_does_to_rows(
    inputs: str, body: str, expected: Independence, tmp_path: Path
) -> None:
    domains = '"" : 20, "ai.onnx.ml" : 3, "com.microsoft" : 1'
    assert verdict(tmp_path, inputs, body, domains=domains) is expected


def test_the_reason_names_output_operator_and_node(tmp_path: Path) -> None:
    model = text_model(X4, "float[N,4] y", "[over_all] y = Softmax <axis = 0> (x)")
    because = proof_of(model, tmp_path).because
    assert because == "output 'y': Softmax 'over_all' normalises along the axis of the rows"


def test_inputs_whose_first_axes_have_other_names_are_no_common_batch(tmp_path: Path) -> None:
    model = text_model("float[N,4] x, float[M,4] z", "float[N,4] y", "y = Add (x, z)")
    because = proof_of(model, tmp_path).because
    assert because == "axis 0 of input 'x' is 'N' and that of input 'z' is 'M': they are no common batch axis"


@pytest.mark.parametrize("names", [("unk__7", "unk__8"), ("s12", "s77"), ("N", "N")])
def test_names_that_exporters_make_up_are_none(names: tuple[str, str], tmp_path: Path) -> None:
    model = text_model(f"float[{names[0]},4] x, float[{names[1]},4] z", "float[N,4] y", "y = Add (x, z)")
    assert proof_of(model, tmp_path).verdict is PROVEN


@pytest.mark.parametrize(
    ("inputs", "because"),
    [
        ("float[2,4] x", "axis 0 of input 'x' has the fixed size 2"),
        ("float x", "input 'x' is a single value, without an axis for rows"),
    ],
)
def test_inputs_without_rows(inputs: str, because: str, tmp_path: Path) -> None:
    assert proof_of(text_model(inputs, "float y", "y = Relu (x)"), tmp_path).because == because


def test_an_output_that_is_the_same_for_all_has_no_rows(tmp_path: Path) -> None:
    model = text_model(X4, "float[2] y", "y = Constant <value = float[2] {1,2}> ()")
    assert "has no row for each of them" in proof_of(model, tmp_path).because


def test_words_of_a_filled_up_text_are_counted_where_the_filler_is_none_of_them(tmp_path: Path) -> None:
    def counts(filler: str) -> Independence:
        body = (
            f't = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "{filler}", separators = [" "]> (x)\n'
            'y = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0,'
            ' ngram_counts = [0], ngram_indexes = [0, 1], pool_strings = ["a", "b"]> (t)'
        )
        return verdict(tmp_path, "string[N] x", body)

    assert counts("#") is PROVEN
    assert counts("b") is MIXED
