"""Operators that combine the elements along some axes: reductions, softmax, normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, computed, constant, count, numbers_in, sizes_in
from sluice.inference.backends.onnx.proof.operation import (
    Mixes,
    Operation,
    OperatorRules,
    Rule,
    Unclear,
    axis_of,
    like,
    names,
)
from sluice.inference.backends.onnx.proof.rules.elementwise import broadcast
from sluice.inference.backends.onnx.proof.rules.picking import beside
from sluice.inference.backends.onnx.proof.rules.shaping import axes_of
from sluice.inference.backends.onnx.proof.sizes import ONE, Size, product

_REDUCING = names("L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare")
_ALL = "takes all elements of all rows together"


def _reduce(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    named = axes_of(operation)
    if not named and operation.flag("noop_with_empty_axes"):
        return [computed(fact)]
    if fact.kind is Dependence.COUNT or (fact.content is not None and len(shape) == 1):
        return _of_sizes(operation, fact, named)
    if not named:
        named = tuple(range(len(shape)))
        if fact.kind is Dependence.ROWS:
            raise Mixes(_ALL)
    return [_reduced(operation, fact, shape, {axis_of(axis, len(shape)) for axis in named})]


def _of_sizes(operation: Operation, fact: Fact, named: Sequence[int] | None) -> Sequence[Fact]:
    """Reduces a shape: its product, the number of elements, is known if the shape is."""
    sizes = sizes_in(fact)
    kept = operation.flag("keepdims", default=True)
    if operation.name != "ReduceProd" or sizes is None or fact.rank != 1 or named not in (None, (), (0,), (-1,)):
        if fact.kind is Dependence.COUNT:
            return [count(None)]
        return [constant((ONE,) if kept else ())] if fact.rank == 1 and named != () else [constant()]
    whole = product(sizes)
    return [count((ONE,) if kept else (), (whole,) if abs(whole.factor) < 2**31 else None)]


def _reduced(operation: Operation, fact: Fact, shape: Sequence[Size], axes: set[int]) -> Fact:
    if fact.kind is Dependence.ROWS and fact.axis in axes:
        raise Mixes("adds up, or compares, along the axis of the rows")
    if operation.flag("keepdims", default=True):
        return like(fact, [ONE if axis in axes else size for axis, size in enumerate(shape)], fact.axis)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    return like(fact, [shape[axis] for axis in kept], kept.index(fact.axis) if fact.kind is Dependence.ROWS else 0)


def _arg(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    return [_reduced(operation, fact, shape, {axis_of(operation.integer("axis", 0), len(shape))})]


def _softmax(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if not shape:
        return [computed(fact)]
    if operation.opset >= 13 or operation.name not in ("Softmax", "LogSoftmax", "Hardmax"):
        beside(operation, fact, axis_of(operation.integer("axis", -1), len(shape)), "normalises")
        return [like(fact, shape, fact.axis)]
    return [_from_axis_on(operation, fact, shape, operation.integer("axis", 1))]


def _from_axis_on(operation: Operation, fact: Fact, shape: Sequence[Size], axis: int) -> Fact:
    """Combines all elements from an axis on."""
    if fact.kind is Dependence.ROWS and fact.axis >= axis_of(axis, len(shape)):
        raise Mixes("normalises over the axis of the rows")
    return like(fact, shape, fact.axis)


def _batch_norm(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if operation.flag("training_mode") or (operation.opset < 7 and not operation.flag("is_test")):
        raise Mixes("normalises over the whole batch (training_mode)")
    for place in range(1, 5):
        operation.same_for_all(place, "the mean and variance")
    if len(shape) > 1:
        beside(operation, fact, 1, "has a scale for each place")
    if fact.kind is Dependence.ROWS and fact.axis != 0 and not operation.flag("spatial", default=True):
        raise Mixes("has a scale for each place")
    return [like(fact, shape, fact.axis)]


def _layer_norm(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "the scale")
    axis = axis_of(operation.integer("axis", -1), len(shape))
    for scale in operation.inputs[1:]:
        if scale is not None and (scale.shape is None or len(scale.shape) > len(shape) - axis):
            broadcast(operation.symbols, [fact, scale])
    normalised = _from_axis_on(operation, fact, shape, axis)
    if operation.outputs == 1:
        return [normalised]
    statistics = like(fact, [*shape[:axis], *[ONE for _ in shape[axis:]]], fact.axis)
    return [normalised, *[statistics for _ in range(operation.outputs - 1)]]


def _lrn(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    beside(operation, fact, 1, "normalises")
    return [like(fact, shape, fact.axis)]


def _mean_variance(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    for axis in operation.integers("axes") or (0, 2, 3):
        beside(operation, fact, axis_of(axis, len(shape)), "normalises")
    return [like(fact, shape, fact.axis)]


def _running(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    axis = numbers_in(operation.same_for_all(1, "the axis"))
    if axis is None:
        if fact.kind is Dependence.CONSTANT:
            return [constant(shape)]
        raise Unclear("takes an axis that is not known before it runs")
    beside(operation, fact, axis_of(axis[0], len(shape)), "adds up")
    return [like(fact, shape, fact.axis)]


def _transformed(operation: Operation) -> Sequence[Fact]:
    """A Fourier transform along one axis, [batch, places..., 1 or 2]."""
    fact, shape = operation.shaped(0)
    operation.same_for_all(1, "the length")
    if operation.opset >= 20:
        named = numbers_in(operation.same_for_all(2, "the axis")) if operation.input(2) is not None else (-2,)
        if named is None:
            raise Unclear("takes an axis that is not known before it runs")
        axis = axis_of(named[0], len(shape))
    else:
        axis = axis_of(operation.integer("axis", 1), len(shape))
    beside(operation, fact, axis, "transforms")
    beside(operation, fact, len(shape) - 1, "transforms")
    whole = [operation.symbols.fresh() if place == axis else size for place, size in enumerate(shape)]
    return [like(fact, [*whole[:-1], operation.symbols.fresh()], fact.axis)]


def _short_time(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    for place in range(1, len(operation.inputs)):
        operation.same_for_all(place, "the frame")
    if fact.kind is Dependence.ROWS and fact.axis != 0:
        raise Mixes("transforms along the axis of the rows")
    return [like(fact, [shape[0], operation.symbols.fresh(), operation.symbols.fresh(), Size(2)], fact.axis)]


RULES: OperatorRules = {
    **{f"Reduce{name}": Rule(_reduce, of_counts=True) for name in _REDUCING},
    "ArgMax": Rule(_arg),
    "ArgMin": Rule(_arg),
    **{name: Rule(_softmax) for name in ("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")},
    "BatchNormalization": Rule(_batch_norm),
    "LayerNormalization": Rule(_layer_norm),
    "RMSNormalization": Rule(_layer_norm),
    "SimplifiedLayerNormalization": Rule(_layer_norm),
    "LRN": Rule(_lrn),
    "MeanVarianceNormalization": Rule(_mean_variance),
    "CumSum": Rule(_running),
    "DFT": Rule(_transformed),
    "STFT": Rule(_short_time),
}
