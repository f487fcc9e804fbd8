"""Operators that compute each element from the elements at its place."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.inference.backends.onnx.proof.facts import (
    Below,
    Dependence,
    Fact,
    Place,
    computed,
    constant,
    count,
    rows,
    sizes_in,
)
from sluice.inference.backends.onnx.proof.operation import (
    Mixes,
    Operation,
    OperatorRules,
    Rule,
    Unclear,
    axis_of,
    names,
)
from sluice.inference.backends.onnx.proof.rules.arithmetic import WHOLE, cast_content, computed_content
from sluice.inference.backends.onnx.proof.sizes import ONE, Size, Symbols

UNARY = names(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
"""Operators with one input, and one output of the same shape."""

MANY = names(
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor CastLike Clip Div Equal Greater GreaterOrEqual Less "
    "LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor StringConcat"
)
"""Operators whose inputs are broadcast to one shape."""


def widest(symbols: Symbols, one: Size, other: Size) -> Size:
    """The size of an axis of two tensors that are broadcast to one shape."""
    if one == other or other == ONE:
        return one
    if one == ONE:
        return other
    if one.known is not None and other.known is not None:
        raise Unclear(f"takes axes of {one} and {other}, which do not fit")
    if one.known is not None or other.known is not None:
        return one if one.known is not None else other
    return symbols.of("widest", *sorted((one, other), key=str))


def broadcast(symbols: Symbols, facts: Sequence[Fact]) -> Fact:
    """The fact of what is computed, element by element, from tensors that are broadcast to one shape.

    Raises `Mixes` if elements of different rows are combined.
    """
    shapes = [fact.shape for fact in facts if fact.shape is not None]
    if len(shapes) < len(facts):
        raise Unclear("has an input of unknown rank")
    if any([fact.kind is Dependence.COUNT for fact in facts]):
        raise Mixes("computes with how many rows there are")
    rank = max(map(len, shapes))
    shape = [ONE] * rank
    layout: tuple[int, Size, Size] | None = None
    for fact, own in zip(facts, shapes, strict=True):
        offset = rank - len(own)
        if fact.kind is Dependence.ROWS:
            found = (fact.axis + offset, fact.outer, own[fact.axis])
            if layout is not None and layout[0] != found[0]:
                raise Mixes("brings rows together along two axes, so that each meets all others")
            if layout is not None and layout != found:
                raise Unclear(f"brings {layout[2]} and {found[2]} rows together")
            layout = found
    for fact, own in zip(facts, shapes, strict=True):
        offset = rank - len(own)
        for place, size in enumerate(own, offset):
            if layout is not None and place == layout[0]:
                if fact.kind is not Dependence.ROWS and size != ONE:
                    raise Mixes(f"brings rows together with {size} along their axis")
                continue
            shape[place] = widest(symbols, shape[place], size)
    if layout is None:
        return constant(shape)
    shape[layout[0]] = layout[2]
    return rows(shape, layout[0], layout[1])


def _unary(operation: Operation) -> Sequence[Fact]:
    fact = operation.needed(0)
    if operation.name == "Identity":
        return [fact]
    if operation.name == "Cast":
        to = operation.integer("to")
        if not fact.plain and to not in WHOLE:
            raise Mixes("reads what the batch decides")
        cast = cast_content(operation.symbols, fact, to)
        return [msgspec.structs.replace(fact, content=cast, mark=fact.mark if to in WHOLE else None)]
    content = computed_content(operation, [fact])
    if fact.kind is Dependence.COUNT:
        return [count(fact.shape, content)]
    return [computed(fact, content)]


def _many(operation: Operation) -> Sequence[Fact]:
    facts = [fact for fact in operation.inputs if fact is not None]
    if operation.name == "CastLike":
        facts = facts[:1]
    if operation.name == "Clip":
        for place in (1, 2):
            operation.same_for_all(place, "a bound")
    placed = _placed(operation, facts)
    if placed is not None:
        return [placed]
    content = computed_content(operation, facts)
    if any([fact.kind is Dependence.COUNT for fact in facts]):
        if any([fact.kind is Dependence.ROWS for fact in facts]):
            raise Mixes("brings rows together with how many there are")
        return [count(_counted_shape(operation.symbols, facts), content)]
    fact = broadcast(operation.symbols, facts)
    return [msgspec.structs.replace(fact, content=content) if content is not None else fact]


def _placed(operation: Operation, facts: Sequence[Fact]) -> Fact | None:
    """The fact of the places of rows, times a size or plus numbers below a limit; `None` if there are no such places.

    PyTorch exports address the elements of rows in this way, as in `mask.flatten()[arange(N) * steps + arange(steps)]`.
    """
    if all([fact.plain for fact in facts]):
        return None
    places, others = [fact for fact in facts if not fact.plain], [fact for fact in facts if fact.plain]
    mark = places[0].mark
    if not isinstance(mark, Place) or mark.below != ONE or len(places) != 1 or len(others) != 1:
        raise Mixes("computes with what the batch decides")
    other, found = others[0], None
    if operation.name == "Mul":
        sizes = sizes_in(other)
        if sizes is not None and len(sizes) == 1 and sizes[0].certain and sizes[0].factor > 0:
            found = Place(mark.stride.times(sizes[0]), ONE)
    elif operation.name == "Add" and isinstance(other.mark, Below):
        found = Place(mark.stride, other.mark.limit)
    if found is None or other.kind is not Dependence.CONSTANT:
        raise Mixes("computes with what the batch decides")
    whole = broadcast(operation.symbols, [msgspec.structs.replace(places[0], mark=None), other])
    return msgspec.structs.replace(whole, mark=found)


def _counted_shape(symbols: Symbols, facts: Sequence[Fact]) -> tuple[Size, ...]:
    return broadcast(symbols, [constant(fact.shape) for fact in facts]).shape or ()


def scaled(operation: Operation, scales: Sequence[int], default_axis: int = 1) -> Fact:
    """Scales elements: there is one scale or zero point for all, or one for each place along an axis."""
    fact, shape = operation.shaped(0)
    for place in scales:
        scale = operation.same_for_all(place, "the scale")
        if scale is None or scale.rank == 0 or scale.shape == (ONE,):
            continue
        if scale.shape is None:
            raise Unclear("has a scale of unknown rank")
        if len(scale.shape) > 1:
            if fact.kind is Dependence.ROWS:
                raise Mixes("has blocks of scales for a fixed number of rows")
            raise Unclear("has a scale for each of several axes")
        axis = axis_of(operation.integer("axis", default_axis), len(shape))
        if fact.kind is Dependence.ROWS and fact.axis == axis:
            raise Mixes("has a scale of its own for each place along the rows")
    return computed(fact)


def _quantised(operation: Operation) -> Sequence[Fact]:
    return [scaled(operation, (1, 2))]


def _dynamically_quantised(operation: Operation) -> Sequence[Fact]:
    raise Mixes("takes its scale from the smallest and largest value of the whole batch")


RULES: OperatorRules = {
    **{name: Rule(_unary, of_counts=True, of_marks=name in ("Cast", "Identity")) for name in UNARY},
    **{name: Rule(_many, of_counts=True, of_marks=name in ("Add", "Mul")) for name in MANY},
    "QuantizeLinear": Rule(_quantised),
    "DequantizeLinear": Rule(_quantised),
    "DynamicQuantizeLinear": Rule(_dynamically_quantised),
}
