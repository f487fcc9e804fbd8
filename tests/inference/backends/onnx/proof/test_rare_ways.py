"""Influences that a trial with two rows does not show: they need rare values, or rows that keep their places.

Each graph was once wrongly proven, and the engine showed an influence.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model, verdict

PROVEN, MIXED, UNKNOWN = Independence.PROVEN, Independence.MIXED, Independence.UNKNOWN

X4 = "float[N,4] x"
PLACES = """
zero = Constant <value_int = 0> ()
one = Constant <value_int = 1> ()
end = Constant <value_ints = [1]> ()
yes = Constant <value = bool {1}> ()
shape = Shape (x)
n = Gather (shape, zero)
place = Range (zero, n, one)
column = Unsqueeze (place, end)
"""
WHERE_LARGE = """
p = Cast <to = 1> (places)
pu = Reshape (p, minus)
large = Constant <value_float = 1000000000.0> ()
b = Greater (x, large)
y = Where (b, pu, x)
"""
AXES = "axes = Constant <value = int64[1] {1}> ()\ny = ReduceMean <keepdims = 1> (x, axes)"
MINUS = "minus = Constant <value_ints = [-1, 1]> ()\n"


@pytest.mark.parametrize(
    "body",
    [
        "places = Loop (one, yes, place) <body = g (int64 i, bool k, int64[N] v) => (bool o, int64[N] u)"
        " { o = Identity (k) u = Identity (v) }>",
        "many = Loop (one, yes) <body = g (int64 i, bool k) => (bool o, int64[N] u)"
        " { o = Identity (k) u = Identity (place) }>\nplaces = Gather (many, zero)",
        "places, w = Scan (place, x) <num_scan_inputs = 1, scan_input_axes = [1],"
        " body = g (int64[N] v, float[N] a) => (int64[N] u, float[N] o) { u = Identity (v) o = Identity (a) }>",
        "many = Scan (column) <num_scan_inputs = 1, scan_input_axes = [1],"
        " body = g (int64[N] v) => (int64[N] u) { u = Identity (v) }>\nplaces = Gather (many, zero)",
        "i = ReduceMin (x, end)\nj = Cast <to = 7> (i)\nk = Sub (j, j)\nplaces = GatherND <batch_dims = 1> (column, k)",
    ],
)
def test_places_of_rows_are_followed_everywhere(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, X4, PLACES + MINUS + body + WHERE_LARGE, "float[N,4] y") is MIXED


@pytest.mark.parametrize("direction", ["scan_input_directions", "scan_output_directions"])
def test_a_scan_through_the_rows_backwards(direction: str, tmp_path: Path) -> None:
    body = "g (float[4] v) => (float[4] u) {{ u = Neg (v) }}"
    scan = f"y = Scan (x) <num_scan_inputs = 1, {direction} = [{{}}], body = {body}>"
    assert verdict(tmp_path, X4, scan.format(0)) is PROVEN
    assert verdict(tmp_path, X4, scan.format(1)) is MIXED


def test_a_loop_that_reads_the_rows_around_it_is_not_the_same_for_all(tmp_path: Path) -> None:
    loop = """
    many = Constant <value_int = 2> ()
    yes = Constant <value = bool {1}> ()
    axis = Constant <value_ints = [1]> ()
    start = Constant <value_ints = [0]> ()
    whole = Constant <value_ints = [4]> ()
    end = Loop (many, yes, whole) <body = g (int64 i, bool k, int64[1] v) => (bool o, int64[1] u) {
        m = ReduceMax <keepdims = 0> (x) large = Constant <value_float = 1000000000.0> () o = Greater (m, large)
        one = Constant <value_ints = [1]> () u = Sub (v, one) }>
    part = Slice (x, start, end, axis)
    y = ReduceSum (part, axis)
    """
    assert verdict(tmp_path, X4, loop, "float[N,1] y") is MIXED


def test_a_size_that_grows_in_a_loop_is_another_afterwards(tmp_path: Path) -> None:
    body = """
    two = Constant <value_ints = [2]> ()
    all = Constant <value_ints = [-1]> ()
    a, s = Loop (one, yes, x) <body = g (int64 i, bool k, float[N,M] v) => (bool o, float[N,L] u, float[N,M] t) {
        o = Identity (k) u = Concat <axis = 1> (v, v) t = Identity (v) }>
    before = Shape (s)
    width = Gather (before, two)
    target = Concat <axis = 0> (all, width)
    halves = Reshape (a, target)
    """
    assert verdict(tmp_path, X4, PLACES + body + "y = Gather (halves, place)", "float[N,4] y") is UNKNOWN
    assert verdict(tmp_path, X4, PLACES + body + "y = Identity (a)", "float[N,8] y") is PROVEN


def test_an_unknown_operator_with_a_graph_is_not_the_same_for_all(tmp_path: Path) -> None:
    body = """
    one = Constant <value_ints = [1]> ()
    zero = Constant <value_int = 0> ()
    start = Constant <value_ints = [0]> ()
    constants = SequenceConstruct (one)
    mapped = SequenceMap (constants) <body = g (int64[1] e) => (int64[1] o) {
        m = ReduceMax <keepdims = 0> (x) i = Cast <to = 7> (m) o = Add (i, e) }>
    end = SequenceAt (mapped, zero)
    part = Slice (x, start, end, one)
    y = ReduceSum (part, one)
    """
    assert verdict(tmp_path, X4, body, "float[N,1] y") is UNKNOWN


def test_a_tensor_in_another_file_has_no_content_here(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(text_model(X4, "float[N,4] y", AXES))
    assert proof_of(model.SerializeToString(), tmp_path).verdict is PROVEN
    axes = model.graph.node[0].attribute[0].t
    axes.data_location = onnx.TensorProto.EXTERNAL
    assert proof_of(model.SerializeToString(), tmp_path).verdict is not PROVEN


@pytest.mark.parametrize(
    ("turn", "expected"), [("two = Transpose <perm = [1, 0]> (l)", PROVEN), ("two = Identity (l)", UNKNOWN)]
)
def test_lengths_in_another_order_than_the_rows(turn: str, expected: Independence, tmp_path: Path) -> None:
    body = f"""
    {turn}
    xx = Concat <axis = 0> (x, x)
    all = Constant <value_ints = [-1]> ()
    ll = Reshape (two, all)
    r = ReverseSequence <batch_axis = 0, time_axis = 1> (xx, ll)
    both = Constant <value_ints = [2, -1, 4]> ()
    rr = Reshape (r, both)
    first = Constant <value_int = 0> ()
    y = Gather (rr, first)
    """
    assert verdict(tmp_path, f"{X4}, int64[N,2] l", body, "float[N,4] y") is expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("", PROVEN),
        ('keep_aspect_ratio_policy = "not_larger",', MIXED),
        ('coordinate_transformation_mode = "tf_crop_and_resize",', UNKNOWN),
    ],
)
def test_resizing_all_axes_alike(how: str, expected: Independence, tmp_path: Path) -> None:
    body = f"""
    shape = Shape <end = 2> (x)
    sides = Constant <value_ints = [2, 2]> ()
    sizes = Concat <axis = 0> (shape, sides)
    roi = Constant <value = float[8] {{0, 0, 0, 0, 0.5, 1, 1, 1}}> ()
    y = Resize <{how} mode = "nearest"> (x, roi, , sizes)
    """
    assert verdict(tmp_path, "float[N,1,4,4] x", body, "float[N,1,2,2] y") is expected


def _called(domain: str, name: str, model_opset: int, function_opset: int, of: str = "") -> bytes:
    own = f'<domain: "{domain}", opset_import: ["{of}" : {function_opset}]>'
    function = f"{own}\n{name} (v) => (w) {{\nw = Softmax <axis = 0> (v)\n}}"
    domains = f'"" : {model_opset}' + (f', "{domain}" : 1' if domain else "")
    called = f"{domain}.{name}" if domain else name
    body = f"t = Transpose <perm = [1, 0]> (x)\nu = {called} (t)\ny = Transpose <perm = [1, 0]> (u)"
    return text_model(X4, "float[N,4] y", body, domains=domains, functions=function)


def test_a_function_is_what_the_engine_takes_it_for(tmp_path: Path) -> None:
    assert proof_of(_called("own", "normal", 13, 13), tmp_path).verdict is PROVEN
    # The engine takes the versions of the model, and its own operators before functions of their names.
    assert proof_of(_called("own", "normal", 11, 13), tmp_path).verdict is UNKNOWN
    assert proof_of(_called("own", "normal", 11, 13, "ai.onnx"), tmp_path).verdict is UNKNOWN
    assert proof_of(_called("own", "normal", 13, 7, "other"), tmp_path).verdict is PROVEN
    assert proof_of(_called("", "LogSoftmax", 13, 13), tmp_path).verdict is UNKNOWN
    assert proof_of(_called("com.microsoft", "Gelu", 13, 13), tmp_path).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("then", "hidden"),
    [
        ("a = Constant <value_ints = [0]> () m = ReduceMean (u, a)", True),
        ("m = ReduceMax (u)", True),
        ("m = Softmax <axis = 0> (u)", True),
        ("q, s, z = DynamicQuantizeLinear (u) m = DequantizeLinear (q, s, z)", True),
        ("a = Constant <value_int = 0> () m = CumSum (u, a)", True),
        ("m, i = TopK <axis = 0> (u, k)", True),
        ("a = Constant <value_ints = [1]> () m = ReduceMean (u, a)", False),
        ("m = Softmax <axis = -1> (u)", False),
    ],
)
def test_what_follows_an_unknown_operator_may_mix_rarely(then: str, hidden: bool, tmp_path: Path) -> None:
    """A trial that draws no such row would believe the model, whatever the unknown operator does."""
    body = f"""
    k = Constant <value_ints = [1]> ()
    u = com.microsoft.NoSuchOperator (x)
    {then}
    rare = Constant <value_float = 777.0> ()
    b = Equal (x, rare)
    y = Where (b, m, x)
    """
    proof = proof_of(text_model(X4, "float[N,4] y", body), tmp_path)
    assert (proof.verdict, proof.hidden) == (UNKNOWN, hidden)
