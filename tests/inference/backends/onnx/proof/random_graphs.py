"""Random graphs of operators that the proof knows, and a search for rows that influence each other in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.random import Generator
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sluice.inference.types import Array
from tests.inference.backends.onnx.proof.drafting import Draft, Known, Maker, Proposal, make_node
from tests.inference.backends.onnx.proof.rarer_operators import RARER

OPSET = 18
SIZES = (3, 2)
"""Rows of the two batches with which a graph is built: sizes that differ between the two depend on the rows."""

MOST_ELEMENTS = 4096
_RELATIVE, _ABSOLUTE = 2e-3, 2e-4


def _unary(draft: Draft, rng: Generator) -> Proposal | None:
    x = draft.pick()
    operator = str(rng.choice(["Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Erf", "Identity", "Floor", "Elu"]))
    y = draft.name()
    return None if x is None else ([make_node(operator, [x.name], [y])], [y])


def _binary(draft: Draft, rng: Generator) -> Proposal | None:
    a, b, y = draft.pick(), draft.pick(), draft.name()
    if a is None or b is None:
        return None
    operator = str(rng.choice(["Add", "Mul", "Sub", "Max", "Min"]))
    return [make_node(operator, [a.name, b.name], [y])], [y]


def _with_constant(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    depth = int(rng.integers(0, x.rank + 1))
    shape = [size if rng.random() < 0.7 else 1 for size in x.shape[x.rank - depth :]]
    operator = str(rng.choice(["Add", "Mul", "Sub", "Max", "PRelu"]))
    return [make_node(operator, [x.name, draft.constant(rng.standard_normal(shape), np.float32)], [y])], [y]


def _where(draft: Draft, rng: Generator) -> Proposal | None:
    a, b = draft.pick(), draft.pick()
    if a is None or b is None:
        return None
    c, y = draft.name(), draft.name()
    level = draft.constant(rng.standard_normal(), np.float32)
    return [make_node("Greater", [a.name, level], [c]), make_node("Where", [c, a.name, b.name], [y])], [y]


def _mat_mul(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    other = draft.pick(least=1) if rng.random() < 0.3 else None
    if other is not None:
        return [make_node("MatMul", [x.name, other.name], [y])], [y]
    if rng.random() < 0.2:
        left = draft.constant(rng.standard_normal((2, x.shape[-2] if x.rank > 1 else x.shape[0])), np.float32)
        return [make_node("MatMul", [left, x.name], [y])], [y]
    weights = draft.constant(rng.standard_normal((x.shape[-1], int(rng.integers(1, 4)))), np.float32)
    return [make_node("MatMul", [x.name, weights], [y])], [y]


def _gemm(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(rank=2), draft.name()
    if x is None:
        return None
    turned = int(rng.random() < 0.3)
    weights = draft.constant(rng.standard_normal((x.shape[1 - turned], 3)), np.float32)
    return [make_node("Gemm", [x.name, weights], [y], transA=turned)], [y]


def _reduce(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    operator = str(rng.choice(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"]))
    count = int(rng.integers(0, x.rank + 1))
    axes = [int(axis) for axis in rng.permutation(x.rank)[:count] - x.rank * (rng.random() < 0.5)]
    inputs = [x.name, draft.constant(axes, np.int64)] if count else [x.name]
    return [make_node(operator, inputs, [y], keepdims=int(rng.random() < 0.5))], [y]


def _along(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(-x.rank, x.rank))
    operator = str(rng.choice(["Softmax", "LogSoftmax", "LpNormalization", "CumSum", "LayerNormalization", "Hardmax"]))
    if operator == "CumSum":
        return [make_node(operator, [x.name, draft.constant(axis, np.int64)], [y])], [y]
    if operator == "LayerNormalization":
        scale = draft.constant(np.ones(x.shape[axis:]), np.float32)
        return [make_node(operator, [x.name, scale], [y], axis=axis)], [y]
    return [make_node(operator, [x.name], [y], axis=axis)], [y]


def _transpose(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    return (
        None
        if x is None
        else ([make_node("Transpose", [x.name], [y], perm=[int(a) for a in rng.permutation(x.rank)])], [y])
    )


def _reshape(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    kind = int(rng.integers(5))
    if kind == 0:
        target = [0] * int(rng.integers(0, x.rank)) + [-1]
    elif kind == 1:
        target = [-1, x.shape[-1]]
    elif kind == 2:
        target = [-1, int(rng.integers(1, 5))]
    elif kind == 3:
        return [make_node("Flatten", [x.name], [y], axis=int(rng.integers(0, x.rank + 1)))], [y]
    else:
        return _reshape_by_shape(draft, rng, x, y)
    return [make_node("Reshape", [x.name, draft.constant(target, np.int64)], [y])], [y]


def _reshape_by_shape(draft: Draft, rng: Generator, x: Known, y: str) -> Proposal | None:
    """A target that is put together from the sizes of the tensor, in any order."""
    order = [int(axis) for axis in rng.permutation(x.rank)]
    s, part, whole = draft.name(), draft.name(), draft.name()
    kept = order[: int(rng.integers(1, x.rank + 1))]
    return [
        make_node("Shape", [x.name], [s]),
        make_node("Gather", [s, draft.constant(kept, np.int64)], [part]),
        make_node("Concat", [part, draft.constant([-1], np.int64)], [whole], axis=0),
        make_node("Reshape", [x.name, whole], [y]),
    ], [y]


def _axes(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    if rng.random() < 0.5:
        axis = draft.constant([int(rng.integers(-x.rank - 1, x.rank + 1))], np.int64)
        return [make_node("Unsqueeze", [x.name, axis], [y])], [y]
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    return ([make_node("Squeeze", [x.name, draft.constant([ones[0]], np.int64)], [y])], [y]) if ones else None


def _pieces(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(-x.rank, x.rank))
    kind = int(rng.integers(6))
    if kind == 0:
        spans = [draft.constant([each], np.int64) for each in (int(rng.integers(0, 2)), 2**40, axis, 1)]
        return [make_node("Slice", [x.name, *spans], [y])], [y]
    if kind == 1:
        index = draft.constant(rng.integers(0, x.shape[axis], int(rng.integers(1, 3))), np.int64)
        return [make_node("Gather", [x.name, index], [y], axis=axis)], [y]
    if kind == 2 and x.shape[axis] > 1:
        rest = draft.name()
        sizes = draft.constant([1, x.shape[axis] - 1], np.int64)
        return [make_node("Split", [x.name, sizes], [y, rest], axis=axis)], [rest, y]
    if kind == 3:
        pads = rng.integers(0, 2, 2 * x.rank) * (rng.random(2 * x.rank) < 0.4)
        return [make_node("Pad", [x.name, draft.constant(pads, np.int64)], [y])], [y]
    if kind == 4:
        repeats = np.where(rng.random(x.rank) < 0.7, 1, 2)
        return [make_node("Tile", [x.name, draft.constant(repeats, np.int64)], [y])], [y]
    other = draft.pick(rank=x.rank)
    return ([make_node("Concat", [x.name, other.name], [y], axis=axis)], [y]) if other is not None else None


def _sorted(draft: Draft, rng: Generator) -> Proposal | None:
    x, y, index = draft.pick(least=1), draft.name(), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(-x.rank, x.rank))
    if rng.random() < 0.5:
        return [make_node("TopK", [x.name, draft.constant([1], np.int64)], [y, index], axis=axis)], [y]
    return [
        make_node("ArgMax", [x.name], [index], axis=axis, keepdims=int(rng.random() < 0.5)),
        make_node("Cast", [index], [y], to=TensorProto.FLOAT),
    ], [y]


def _looked_up(draft: Draft, rng: Generator) -> Proposal | None:
    """A table, or an axis of a tensor, by what another one says."""
    x = draft.pick(least=1)
    if x is None:
        return None
    index, y = draft.name(), draft.name()
    find = make_node("ArgMax", [x.name], [index], axis=int(rng.integers(-x.rank, x.rank)), keepdims=1)
    if rng.random() < 0.5:
        table = draft.constant(rng.standard_normal((8, 2)), np.float32)
        return [find, make_node("Gather", [table, index], [y])], [y]
    return [find, make_node("GatherElements", [x.name, index], [y], axis=int(rng.integers(0, x.rank)))], [y]


def _picture(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=3), draft.name()
    if x is None or x.rank > 4:
        return None
    places = x.rank - 2
    kind = int(rng.integers(4))
    if kind == 0:
        kernel = draft.constant(rng.standard_normal((2, x.shape[1], *[2] * places)), np.float32)
        return [make_node("Conv", [x.name, kernel], [y], pads=[1] * 2 * places)], [y]
    if kind == 1:
        operator = str(rng.choice(["MaxPool", "AveragePool"]))
        return [make_node(operator, [x.name], [y], kernel_shape=[2] * places)], [y]
    if kind == 2:
        operator = str(rng.choice(["GlobalAveragePool", "GlobalMaxPool"]))
        return [make_node(operator, [x.name], [y])], [y]
    ones = draft.constant(np.ones(x.shape[1]), np.float32)
    return [make_node("InstanceNormalization", [x.name, ones, ones], [y])], [y]


def _batch_norm(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(least=2), draft.name()
    if x is None:
        return None
    numbers = [draft.constant(rng.random(x.shape[1]) + 0.5, np.float32) for _ in range(4)]
    return [make_node("BatchNormalization", [x.name, *numbers], [y])], [y]


def _expanded(draft: Draft, rng: Generator) -> Proposal | None:
    """A constant, or a tensor, brought to the shape of another."""
    x, y, s = draft.pick(least=1), draft.name(), draft.name()
    if x is None:
        return None
    if rng.random() < 0.5:
        other = draft.pick()
        name = other.name if other is not None else x.name
        return [make_node("Shape", [x.name], [s]), make_node("Expand", [name, s], [y])], [y]
    filled = draft.name()
    return [
        make_node("Shape", [x.name], [s]),
        make_node("ConstantOfShape", [s], [filled], value=numpy_helper.from_array(np.array([2], np.float32))),
        make_node("Concat", [filled, x.name], [y], axis=int(rng.integers(-x.rank, x.rank))),
    ], [y]


def _counted(draft: Draft, rng: Generator) -> Proposal | None:
    """What depends on a size of a tensor."""
    x, y, s, n = draft.pick(least=1), draft.name(), draft.name(), draft.name()
    if x is None:
        return None
    axis = int(rng.integers(0, x.rank))
    nodes = [make_node("Shape", [x.name], [s]), make_node("Gather", [s, draft.constant(axis, np.int64)], [n])]
    if rng.random() < 0.5:
        as_float = draft.name()
        nodes += [make_node("Cast", [n], [as_float], to=TensorProto.FLOAT), make_node("Mul", [x.name, as_float], [y])]
        return nodes, [y]
    places, as_float, column = draft.name(), draft.name(), draft.name()
    inner = [[1, 2, 3][: x.rank - axis - 1]]
    nodes += [
        make_node("Range", [draft.constant(0, np.int64), n, draft.constant(1, np.int64)], [places]),
        make_node("Cast", [places], [as_float], to=TensorProto.FLOAT),
        make_node("Unsqueeze", [as_float, draft.constant(inner[0], np.int64)], [column])
        if inner[0]
        else make_node("Identity", [as_float], [column]),
        make_node("Add", [x.name, column], [y]),
    ]
    return nodes, [y]


def _addressed(draft: Draft, rng: Generator) -> Proposal | None:
    """x[arange(rows), index], as PyTorch exports it."""
    x = draft.pick(least=2)
    if x is None:
        return None
    s, n, places, column, best, index, address, y = (draft.name() for _ in range(8))
    axes = draft.constant([1], np.int64)
    flat, other = draft.name(), draft.name()
    return [
        make_node("Shape", [x.name], [s]),
        make_node("Gather", [s, draft.constant(0, np.int64)], [n]),
        make_node("Range", [draft.constant(0, np.int64), n, draft.constant(1, np.int64)], [places]),
        make_node("Unsqueeze", [places, axes], [column]),
        make_node("Flatten", [x.name], [flat], axis=1),
        make_node("ArgMax", [flat], [best], axis=1, keepdims=1),
        make_node("Mod", [best, draft.constant([x.shape[1]], np.int64)], [index]),
        make_node("Concat", [column, index], [address], axis=1),
        make_node("GatherND", [x.name, address], [other]),
        make_node("Identity", [other], [y]),
    ], [y]


def _quantised(draft: Draft, rng: Generator) -> Proposal | None:
    x, y, q = draft.pick(least=1), draft.name(), draft.name()
    if x is None:
        return None
    if rng.random() < 0.5:
        scale, zero = draft.name(), draft.name()
        return [
            make_node("DynamicQuantizeLinear", [x.name], [q, scale, zero]),
            make_node("DequantizeLinear", [q, scale, zero], [y]),
        ], [y]
    numbers = [draft.constant(0.05, np.float32), draft.constant(0, np.int8)]
    return [make_node("QuantizeLinear", [x.name, *numbers], [q]), make_node("DequantizeLinear", [q, *numbers], [y])], [
        y
    ]


def _recurrent(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(rank=3), draft.name()
    if x is None:
        return None
    operator = str(rng.choice(["LSTM", "GRU", "RNN"]))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    w = draft.constant(rng.standard_normal((1, gates * 2, x.shape[2])), np.float32)
    r = draft.constant(rng.standard_normal((1, gates * 2, 2)), np.float32)
    last = draft.name()
    return [make_node(operator, [x.name, w, r], [y, last], hidden_size=2)], [last, y]


def _einsum(draft: Draft, rng: Generator) -> Proposal | None:
    a, b, y = draft.pick(rank=2), draft.pick(rank=2), draft.name()
    if a is None or b is None:
        return None
    equation = str(rng.choice(["ij,kj->ik", "ij,ij->i", "ij,ij->ij", "ij,ik->ijk", "ij,jk->ik", "ij,ij->j"]))
    return [make_node("Einsum", [a.name, b.name], [y], equation=equation)], [y]


def _learned(draft: Draft, rng: Generator) -> Proposal | None:
    x, y = draft.pick(rank=2), draft.name()
    if x is None:
        return None
    if rng.random() < 0.5:
        return [
            make_node("Normalizer", [x.name], [y], norm=str(rng.choice(["L1", "L2", "MAX"])), domain="ai.onnx.ml")
        ], [y]
    numbers = {"offset": [float(each) for each in rng.random(x.shape[1])], "scale": [2.0] * x.shape[1]}
    return [make_node("Scaler", [x.name], [y], domain="ai.onnx.ml", **numbers)], [y]


def _branched(draft: Draft, rng: Generator) -> Proposal | None:
    """One of two operators, by a sum or by a size."""
    x, y = draft.pick(least=1), draft.name()
    if x is None:
        return None
    condition, number = draft.name(), draft.name()
    if rng.random() < 0.5:
        decide = [
            make_node("ReduceSum", [x.name], [number], keepdims=0),
            make_node("Greater", [number, draft.constant(0, np.float32)], [condition]),
        ]
    else:
        s = draft.name()
        axis = draft.constant(int(rng.integers(0, x.rank)), np.int64)
        decide = [
            make_node("Shape", [x.name], [s]),
            make_node("Gather", [s, axis], [number]),
            make_node("Greater", [number, draft.constant(2, np.int64)], [condition]),
        ]
    ways = []
    for operator in ("Tanh", "Neg"):
        inner = draft.name()
        value = helper.make_tensor_value_info(inner, TensorProto.FLOAT, None)
        ways.append(helper.make_graph([make_node(operator, [x.name], [inner])], operator, [], [value]))
    return [*decide, make_node("If", [condition], [y], then_branch=ways[0], else_branch=ways[1])], [y]


def _scanned(draft: Draft, rng: Generator) -> Proposal | None:
    """A running sum, or each slice by itself."""
    x = draft.pick(least=2)
    if x is None:
        return None
    state, y, begin = draft.name(), draft.name(), draft.name()
    axis = int(rng.integers(0, x.rank))
    rest = [size for place, size in enumerate(x.shape) if place != axis]
    if any([size in SIZES for size in rest]) and rng.random() < 0.5:
        return None
    carried = rng.random() < 0.5
    nodes = [
        make_node("Tanh", ["slice"], ["each"]),
        make_node("Add" if carried else "Identity", ["before", "each"] if carried else ["before"], ["after"]),
        make_node("Identity", ["after" if carried else "each"], ["out"]),
    ]
    names = ("before", "slice", "after", "out")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    body = helper.make_graph(nodes, "body", values[:2], values[2:])
    zeros = make_node("Identity", [draft.constant(np.zeros(rest if carried else [1]), np.float32)], [begin])
    scan = make_node(
        "Scan",
        [begin, x.name],
        [state, y],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[int(rng.integers(0, x.rank))],
    )
    return [zeros, scan], [y]


MAKERS: Sequence[Maker] = (
    *[_unary, _binary, _with_constant, _with_constant, _where, _mat_mul, _mat_mul, _gemm, _reduce, _reduce, _along],
    *[_along, _transpose, _transpose, _reshape, _reshape, _reshape, _axes, _pieces, _pieces, _sorted, _looked_up],
    *[_picture, _batch_norm, _expanded, _counted, _addressed, _quantised, _recurrent, _einsum, _learned, _branched],
    _scanned,
    *RARER,
)


@dataclass(frozen=True)
class RandomGraph:
    """A model with one output, and its inputs' shapes without the rows."""

    model: bytes
    inputs: Mapping[str, tuple[int, ...]]
    operators: tuple[str, ...]


def random_graph(seed: int) -> RandomGraph | None:
    """A graph of a few operators; `None` if what was drawn does not run."""
    rng = np.random.default_rng(seed)
    shapes = [(4,), (5, 4), (2, 4, 4), (1,)]
    count = 1 if rng.random() < 0.7 else 2
    draft = Draft(rng, {f"x{place}": shapes[int(rng.integers(len(shapes)))] for place in range(count)})
    for name, shape in draft.inputs.items():
        draft.known.append(Known(name, tuple([_floats(rng, (rows, *shape)) for rows in SIZES])))
    steps = int(rng.integers(2, 9))
    for _ in range(4 * steps):
        if len(draft.nodes) >= steps:
            break
        _grow(draft)
    if not draft.nodes:
        return None
    last = draft.known[-1].name
    nodes = _needed(draft.nodes, last)
    operators = tuple([node.op_type for node in nodes])
    graph = RandomGraph(_model(draft, nodes, [last], draft.inputs), draft.inputs, operators)
    return graph if nodes and _runs(draft, graph) else None


def _runs(draft: Draft, graph: RandomGraph) -> bool:
    """Whether the engine takes the whole graph: it refuses some operators only if their shapes are not declared."""
    inputs = draft.known[: len(graph.inputs)]
    try:
        session = _session(graph.model)
        for size in range(len(SIZES)):
            session.run(None, {known.name: known.values[size] for known in inputs})
    except Exception:
        return False
    return True


def _needed(nodes: Sequence[NodeProto], output: str) -> list[NodeProto]:
    """The nodes on which the output depends. The engine would run others, too, and fail if one of them refuses."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(_read_by(node))
            kept.append(node)
    return kept[::-1]


def _read_by(node: NodeProto) -> set[str]:
    inner = [name for attribute in node.attribute for each in attribute.g.node for name in each.input]
    return {*node.input, *inner}


def _grow(draft: Draft) -> None:
    """Adds the nodes of a proposal if they run for both numbers of rows and their outputs are small."""
    maker = MAKERS[int(draft.rng.integers(len(MAKERS)))]
    proposal = maker(draft, draft.rng)
    if proposal is None:
        return
    nodes, outputs = proposal
    needed = {name for node in nodes for name in _read_by(node)}
    feeds = [known for known in draft.known if known.name in needed]
    model = _model(draft, nodes, outputs, {known.name: () for known in feeds}, ranks=feeds)
    try:
        session = _session(model)
        values = [session.run(outputs, {known.name: known.values[size] for known in feeds}) for size in range(2)]
    except Exception:
        return
    for place, name in enumerate(outputs):
        found = tuple([each[place] for each in values])
        if any([array.size > MOST_ELEMENTS or array.size == 0 or array.dtype != np.float32 for array in found]):
            return
        draft.known.append(Known(name, found))
    draft.nodes.extend(nodes)


def _floats(rng: Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.standard_normal(shape), np.float32)


def _model(
    draft: Draft,
    nodes: Sequence[NodeProto],
    outputs: Sequence[str],
    inputs: Mapping[str, tuple[int, ...]],
    ranks: Sequence[Known] = (),
) -> bytes:
    known = {each.name: each.rank for each in ranks}
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * known[name] if name in known else ["N", *shape])
        for name, shape in inputs.items()
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes),
        "random",
        values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in draft.constants.items() if name in used],
    )
    sets = [helper.make_opsetid(*each) for each in (("", OPSET), ("ai.onnx.ml", 3), ("com.microsoft", 1))]
    made: bytes = helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()
    return made


def _session(model: bytes, *, as_served: bool = False) -> Any:
    """The engine; for runs as in service with all optimisations, which replace operators."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not as_served:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def influence(graph: RandomGraph, seed: int, tries: int = 24) -> str | None:
    """An influence of rows on each other that a search with real runs finds; `None` if it finds none."""
    rng = np.random.default_rng(seed)
    session = _session(graph.model, as_served=True)
    run_options = ort.RunOptions()
    run_options.log_severity_level = 4
    run: Callable[[dict[str, Array]], Array] = lambda feed: session.run(None, feed, run_options)[0]  # noqa: E731
    for _ in range(tries):
        rows = int(rng.choice([2, 3, 4, 5]))
        feed = {name: _rows(rng, rows, shape) for name, shape in graph.inputs.items()}
        try:
            alone = [run({name: array[row : row + 1] for name, array in feed.items()}) for row in range(rows)]
        except Exception:
            alone = []
        try:
            together = run(feed)
        except Exception:
            if alone:
                return f"{rows} rows are refused"
            continue  # for what stands in one of them
        if not alone:
            return "a row alone is refused"
        if together.ndim == 0 or together.shape[0] != rows or any([one.shape[:1] != (1,) for one in alone]):
            return f"{rows} rows give the shape {together.shape}"
        for row, one in enumerate(alone):
            if one.shape[1:] != together.shape[1:]:
                return f"the shape {one.shape[1:]} alone, {together.shape[1:]} among {rows}"
            if not np.allclose(one[0], together[row], rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True):
                return f"row {row} of {rows} differs by {float(np.abs(one[0] - together[row]).max()):g}"
    return None


def _rows(rng: Generator, rows: int, shape: tuple[int, ...]) -> Array:
    """Rows of all kinds: noise, large and small ones, steps, zeros, one that stands out."""
    kind = int(rng.integers(6))
    drawn = np.asarray(rng.standard_normal((rows, *shape)), np.float32)
    if kind == 1:
        drawn *= np.float32(10.0 ** rng.uniform(-2, 2))
    elif kind == 2:
        drawn = np.asarray(rng.integers(-3, 4, (rows, *shape)), np.float32)
    elif kind == 3:
        drawn[int(rng.integers(rows))] *= 30
    elif kind == 4:
        drawn = np.abs(drawn)
    elif kind == 5:
        drawn[int(rng.integers(rows))] = 0
    return drawn
