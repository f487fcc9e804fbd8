"""The node tests of the `onnx` package as models for many callers: one axis of their inputs is made free."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple
from warnings import catch_warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sluice.inference.types import Array

OPSETS = (26, 21, 18, 13)
"""Versions of the operators that a test is tried in, as far as they are not above its own, newest first: the engine
has not all of the newest operators, and may have them as they were."""

IR_VERSION = 10
PACKAGE = "onnx.backend.test.case.node"


class Taken(NamedTuple):
    """An input with a free first axis, and rows that the test gives it, as they are stored."""

    name: str
    rows: Array


class NodeModel(NamedTuple):
    """One node test as a model, in one or more versions of its operators, the first of which is to be preferred.

    `taken` is all that it takes: what else its operator takes is among its weights. Where inputs stand `apart`, each
    has a name of its own for its first axis, and calls need not have as many rows of one as of another.
    """

    name: str
    models: tuple[bytes, ...]
    taken: tuple[Taken, ...]
    apart: bool


def all_node_models() -> list[NodeModel]:
    """Every way to make rows of every node test. Takes ten seconds and more."""
    return _models_of(lambda package: package.collect_testcases(None))


def node_models(modules: Sequence[str]) -> list[NodeModel]:
    """Every way to make rows of the node tests in these modules of the package."""
    return _models_of(lambda package: _cases_in(package, modules))


def _models_of(collect: Any) -> list[NodeModel]:
    state = np.random.get_state()
    np.random.seed(0)  # a test's numbers are drawn as it is collected
    try:
        with catch_warnings(action="ignore"):
            cases = collect(importlib.import_module(PACKAGE))
    finally:
        np.random.set_state(state)
    return list(chain.from_iterable([_ways(case) for case in cases]))


def _cases_in(package: Any, modules: Sequence[str]) -> list[Any]:
    operators: set[str] = set()
    for name in modules:
        operators |= set(vars(importlib.import_module(f"{PACKAGE}.{name}")))  # each has a class for its tests
    # The only function that gives them out imports all modules first, which takes most of the time.
    return [case for case in package._NodeTestCases if {node.op_type for node in case.model.graph.node} & operators]


def _ways(case: Any) -> Iterator[NodeModel]:
    """The first input alone with rows, those with as many, all of them, and all of them with an axis of their own.

    Recurrent operators have their batch along the second axis, and others keep it apart: that one is made free, too.
    """
    given, _ = case.data_sets[0]
    declared = list(case.model.graph.input)
    arrays = [_stored(each) for each in given]
    if len(declared) != len(arrays):
        return
    free = [place for place, array in enumerate(arrays) if array is not None and _has_rows(declared[place], array)]
    if not free:
        return
    rows = {place: array.shape[0] for place, array in enumerate(arrays) if array is not None and place in free}
    alike = [place for place in free if rows[place] == rows[free[0]]]
    ways = {tuple(free): "all", tuple(alike): "alike", tuple(free[:1]): "first"}  # of equal ones, the last name stays
    for places, way in ways.items():
        yield _model(case, way, dict.fromkeys(places, "N"), arrays)
    if len(free) > 1:
        yield _model(case, "each", {place: f"N{place}" for place in free}, arrays)
    seconds = {
        place: array.shape[1] for place in free if (array := arrays[place]) is not None and array.shape[1:2] > (0,)
    }
    if seconds:
        alike = [place for place, size in seconds.items() if size == next(iter(seconds.values()))]
        yield _model(case, "second", dict.fromkeys(alike, "N"), arrays, axis=1)


def _model(case: Any, way: str, axes: dict[int, str], arrays: Sequence[Array | None], axis: int = 0) -> NodeModel:
    """The test with these names for an axis of its inputs. The others become weights."""
    given, expected = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    graph = model.graph
    inputs = list(graph.input)
    del graph.input[:], graph.value_info[:]
    for place, value in enumerate(inputs):
        if place in axes:
            value.type.tensor_type.shape.dim[axis].dim_param = axes[place]
            graph.input.append(value)
        elif isinstance(given[place], list) or given[place] is None:
            graph.input.append(value)  # a sequence, or what is not there: refused
        else:
            graph.initializer.append(_weights(given[place], value.name))
    for value, array in zip(graph.output, expected, strict=True):
        _declare_rows(value, array)
    if axis:
        _move_rows(model)
    names = [value.name for value in graph.input]
    rows = [np.ascontiguousarray(np.swapaxes(array, 0, axis)) for place in axes if (array := arrays[place]) is not None]
    taken = [Taken(name, array) for name, array in zip(names, rows, strict=False)]
    return NodeModel(f"{case.name.removeprefix('test_')}-{way}", tuple(_versions(model)), tuple(taken), way == "each")


def _versions(model: Any) -> Iterator[bytes]:
    own = next((opset for opset in model.opset_import if opset.domain == ""), None)
    if own is None or own.version <= OPSETS[-1]:
        yield model.SerializeToString()
        return
    for version in dict.fromkeys([min(own.version, each) for each in OPSETS]):
        own.version = version
        yield model.SerializeToString()


def _has_rows(declared: Any, array: Array) -> bool:
    """Whether an input is a tensor with a first axis, and not an empty one."""
    return bool(array.ndim and array.shape[0] and len(declared.type.tensor_type.shape.dim) == array.ndim)


def _declare_rows(value: Any, array: Any) -> None:
    """Declares the first axis of an output as the rows, whether it is or not, and its other axes as of any size."""
    stored = _stored(array)
    if stored is None or not stored.ndim:
        return
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add(dim_param="N")
    for _ in range(stored.ndim - 1):
        shape.dim.add()


def _move_rows(model: Any) -> None:
    """Makes a model whose rows are along the second axis take and give them along the first one."""
    graph = model.graph
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        known = list(onnx.shape_inference.infer_shapes(model).graph.output)
    except onnx.shape_inference.InferenceError:
        known = []
    moves: list[Any] = []
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        inner, value.name = value.name, f"{value.name}_rows"
        moves.append(helper.make_node("Transpose", [value.name], [inner], perm=[1, 0, *range(2, len(dims))]))
        (fixed, rows), others = (dims[0].dim_value, dims[1].dim_param), [dim.dim_value for dim in dims[2:]]
        value.CopyFrom(
            helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, [rows, fixed, *others])
        )
    nodes = [*moves, *graph.node]
    for value, found in zip(graph.output, known, strict=False):
        sizes = [dim.dim_param for dim in found.type.tensor_type.shape.dim]
        if "N" in sizes[1:]:
            place = sizes.index("N", 1)
            inner, value.name = value.name, f"{value.name}_rows"
            order = [place, *[axis for axis in range(len(sizes)) if axis != place]]
            nodes.append(helper.make_node("Transpose", [inner], [value.name], perm=order))
    del graph.node[:]
    graph.node.extend(nodes)


def _weights(given: Any, name: str) -> Any:
    tensor = onnx.TensorProto()
    tensor.CopyFrom(given if isinstance(given, onnx.TensorProto) else numpy_helper.from_array(np.asarray(given)))
    tensor.name = name
    return tensor


def _stored(given: Any) -> Array | None:
    """A test's tensor in storage dtypes; `None` if it is no tensor, or of a datatype that is not served."""
    if isinstance(given, onnx.TensorProto):
        given = numpy_helper.to_array(given)
    if given is None or isinstance(given, list):
        return None
    array = np.asarray(given)
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    if array.dtype.kind in "OUS":
        encoded = np.empty(array.size, np.object_)
        encoded[:] = [str(each).encode() for each in array.ravel().tolist()]
        return encoded.reshape(array.shape)
    return array if array.dtype.kind in "biuf" else None
