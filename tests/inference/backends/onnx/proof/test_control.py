"""Branches, loops and functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.graphs import proof_of, text_model, verdict

PROVEN, MIXED, UNKNOWN = Independence.PROVEN, Independence.MIXED, Independence.UNKNOWN

X4 = "float[N,4] x"
BRANCHES = (
    "<then_branch = g () => (float[N,4] a) {{ a = {} (x) }}, else_branch = h () => (float[N,4] b) {{ b = {} (x) }}>"
)
TOLD_LATER = "n = Constant <value_float = 2.0> ()\nr = Sin (n)\nc = Cast <to = 9> (r)"
LARGEST = "m = ReduceMax <keepdims = 0> (x)\nz = Constant <value_float = 0.0> ()\nc = Greater (m, z)"


@pytest.mark.parametrize(
    ("condition", "ways", "expected"),
    [
        ("c = Constant <value = bool {1}> ()", ("Relu", "ReduceMean"), PROVEN),
        ("c = Constant <value = bool {0}> ()", ("ReduceMean", "Relu"), PROVEN),
        (TOLD_LATER, ("Relu", "Neg"), PROVEN),
        (TOLD_LATER, ("Relu", "ReduceMean"), MIXED),
        (LARGEST, ("Relu", "Neg"), MIXED),
    ],
)
def test_branches(condition: str, ways: tuple[str, str], expected: Independence, tmp_path: Path) -> None:
    assert verdict(tmp_path, X4, f"{condition}\ny = If (c) {BRANCHES.format(*ways)}") is expected


LOOP = (
    "m = Constant <value_int = 3> ()\nc = Constant <value = bool {{1}}> ()\n"
    "y, w = Loop (m, c, x) <body = g (int64 i, bool k, float[N,4] v) => (bool o, float[N,4] u, float[N,4] s) {{ {} }}>"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("o = Identity (k) u = Relu (v) s = Neg (v)", PROVEN),
        ("o = Identity (k) r = Constant <value_ints = [0]> () n = ReduceMean (v, r) u = Sub (v, n) s = Neg (v)", MIXED),
        (
            "e = ReduceMax <keepdims = 0> (v) z = Constant <value_float = 9.0> () o = Less (e, z)"
            " u = Add (v, v) s = Neg (v)",
            MIXED,
        ),
    ],
)
def test_loops(body: str, expected: Independence, tmp_path: Path) -> None:
    assert verdict(tmp_path, X4, LOOP.format(body)) is expected


SCAN = (
    "y0, y = Scan (b, x) <num_scan_inputs = 1, scan_input_axes = [{axis}], scan_output_axes = [{axis}],"
    " body = g (float{shape} a, float{shape} e) => (float{shape} f, float{shape} o) {{ {body} }}>"
)


@pytest.mark.parametrize(
    ("start", "axis", "shape", "body", "expected"),
    [
        ("b = Constant <value = float[4] {0,0,0,0}> ()", 0, "[4]", "f = Identity (a) o = Neg (e)", PROVEN),
        ("b = Constant <value = float[4] {0,0,0,0}> ()", 0, "[4]", "f = Add (a, e) o = Identity (f)", MIXED),
        (
            "b = Constant <value = float[4] {0,0,0,0}> ()",
            0,
            "[4]",
            "f = Identity (a) z = Constant <value_ints = [0]> () m = ReduceMax (x, z) o = Add (e, m)",
            MIXED,
        ),
        (
            "i = Constant <value_int = 0> ()\nb = Gather <axis = 1> (x, i)",
            1,
            "[N]",
            "f = Add (a, e) o = Identity (f)",
            PROVEN,
        ),
    ],
)
def test_scans(start: str, axis: int, shape: str, body: str, expected: Independence, tmp_path: Path) -> None:
    assert verdict(tmp_path, X4, f"{start}\n{SCAN.format(axis=axis, shape=shape, body=body)}") is expected


def _with_function(body: str, attribute: str = "") -> bytes:
    function = f'<domain: "own", opset_import: ["" : 18]>\nnormal {attribute}(v) => (w) {{\n{body}\n}}'
    return text_model(X4, "float[N,4] y", "y = own.normal" + (" <axis = 1>" if attribute else "") + " (x)",
                      domains='"" : 18, "own" : 1', functions=function)  # fmt: skip


def test_functions_are_followed_with_their_inputs(tmp_path: Path) -> None:
    assert proof_of(_with_function("w = Softmax <axis = 1> (v)"), tmp_path).verdict is PROVEN
    assert proof_of(_with_function("w = Softmax <axis = 0> (v)"), tmp_path).verdict is MIXED


def test_functions_have_the_attributes_of_their_callers(tmp_path: Path) -> None:
    model = _with_function("w = Softmax <axis: int = @axis> (v)", "<axis>")
    assert proof_of(model, tmp_path).verdict is PROVEN
