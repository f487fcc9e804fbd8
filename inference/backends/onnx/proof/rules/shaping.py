"""Operators that change the shape of a tensor but not its elements, and operators that make and read shapes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.inference.backends.onnx.proof.contents import moved
from sluice.inference.backends.onnx.proof.facts import (
    MOST_CONTENT,
    Address,
    Below,
    Dependence,
    Fact,
    Padded,
    Place,
    computed,
    constant,
    count,
    numbers_in,
    rows,
    sizes_in,
)
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.rules.elementwise import broadcast
from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, Size, product

_LAST_AXIS = "changes the last axis of what is as long as the longest row of the batch, or has the places of rows"


def _shape(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if isinstance(fact.mark, Padded):
        raise Mixes("tells the length of the longest row of the batch")
    start, end = operation.integer("start"), operation.integer("end", len(shape))
    part = shape[slice(start, end)]
    return [count((Size(len(part)),), part)]


def _size(operation: Operation) -> Sequence[Fact]:
    _, shape = operation.shaped(0)
    return [count((), (product(shape),))]


def target_sizes(operation: Operation, place: int) -> tuple[Size, ...]:
    """A shape that the graph computes. Raises `Mixes` if it depends on the rows, and `Unclear` if it is not known."""
    fact = operation.needed(place)
    if fact.kind is Dependence.ROWS:
        raise Mixes("takes a shape from what stands in the rows")
    sizes = sizes_in(fact)
    if sizes is None:
        if fact.kind is Dependence.COUNT:
            raise Mixes("takes a shape that is computed from the number of rows in a way that cannot be followed")
        raise Unclear("takes a shape that is not known before it runs")
    return sizes


def _reshape(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if operation.opset < 5 and operation.has("shape"):
        target = tuple([Size(size) for size in operation.integers("shape") or ()])
    else:
        target = target_sizes(operation, 1)
    if not operation.flag("allowzero"):
        target = tuple(
            [shape[axis] if size.known == 0 and axis < len(shape) else size for axis, size in enumerate(target)]
        )
    if any([not size.certain and size.known != -1 for size in target]):
        raise Unclear("takes a shape that may have sizes of 0 or -1, which stand for others")
    whole = _with_rest(operation, product(shape), target)
    if isinstance(fact.mark, Padded | Address) and (not whole or whole[-1] != shape[-1]):
        raise Mixes(_LAST_AXIS)
    return [msgspec.structs.replace(placed(fact, shape, whole), content=fact.content)]


def _with_rest(operation: Operation, elements: Size, target: tuple[Size, ...]) -> tuple[Size, ...]:
    """The target shape, with the size that the engine computes for -1."""
    open_axes = [axis for axis, size in enumerate(target) if size.known == -1]
    if not open_axes:
        return target
    if len(open_axes) > 1:
        raise Unclear("leaves two sizes open")
    others = product([size for size in target if size.known != -1])
    rest = elements.over(others)
    if rest is None:
        if (elements.counts_rows and elements.over(ROWS) is not None and others.over(ROWS) is not None) or (
            not elements.counts_rows and not others.counts_rows
        ):
            rest = operation.symbols.of("rest", elements, others)
        else:
            raise Unclear(f"spreads {elements} elements over {others}, and it is not known whether that divides")
    return tuple([rest if axis == open_axes[0] else size for axis, size in enumerate(target)])


def placed(fact: Fact, shape: tuple[Size, ...], target: Sequence[Size]) -> Fact:
    """The fact of the same elements in another shape, if each row's elements stay in one piece of an axis.

    A new shape does not change how many elements come before the first one of row 1. So an axis of the target has the
    rows if the product of the sizes before it divides that number, and its own size contains N and the quotient.
    """
    if fact.kind is not Dependence.ROWS:
        if fact.kind is Dependence.CONSTANT and any([size.counts_rows for size in target]):
            raise Mixes("gives what is the same for all a size for each row")
        return msgspec.structs.replace(fact, shape=tuple(target), content=None)
    before = product(shape[: fact.axis]).times(fact.outer)
    so_far = ONE
    for axis, size in enumerate(target):
        if size.counts_rows:
            outer = before.over(so_far)
            if outer is None or size.over(outer.times(ROWS)) is None:
                break
            return msgspec.structs.replace(rows(target, axis, outer), mark=fact.mark)
        so_far = so_far.times(size)
    raise Unclear(f"turns {_words(shape)} into {_words(target)}, which does not keep the rows along one axis")


def _words(shape: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _flatten(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    axis = operation.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    target = (product(shape[:axis]), product(shape[axis:]))
    if isinstance(fact.mark, Padded | Address) and target[-1] != shape[-1]:
        raise Mixes(_LAST_AXIS)
    return [placed(fact, shape, target)]


def axes_of(operation: Operation, place: int = 1) -> tuple[int, ...] | None:
    """Axes from an attribute or an input; `None` if there are none. Raises `Unclear` if they are not known."""
    if operation.has("axes"):
        return operation.integers("axes")
    if operation.input(place) is None:
        return None
    axes = numbers_in(operation.same_for_all(place, "axes"))
    if axes is None:
        raise Unclear("takes axes that are not known before it runs")
    return axes


def _squeeze(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    named = axes_of(operation)
    if not named:  # for the engine, no axes mean all axes
        if fact.kind is Dependence.ROWS:
            raise Mixes("drops every axis of size 1, and so the axis of the rows where there is one row")
        if any([size.known is None for size in shape]):
            raise Unclear("drops every axis of size 1, and it is not known which these are")
        named = tuple([axis for axis, size in enumerate(shape) if size == ONE])
    axes = {axis_of(axis, len(shape)) for axis in named}
    if fact.kind is Dependence.ROWS and fact.axis in axes:
        raise Mixes("drops the axis of the rows, which works for one row only")
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    squeezed = like(fact, [shape[axis] for axis in kept], kept.index(fact.axis) if fact.kind is Dependence.ROWS else 0)
    return [msgspec.structs.replace(squeezed, content=fact.content, mark=fact.mark)]


def _unsqueeze(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    named = axes_of(operation)
    if named is None:
        raise Unclear("names no axes")
    rank = len(shape) + len(named)
    axes = {axis_of(axis, rank) for axis in named}
    if isinstance(fact.mark, Padded | Address) and rank - 1 in axes:
        raise Mixes(_LAST_AXIS)
    left = iter(range(len(shape)))
    sources = [None if axis in axes else next(left, None) for axis in range(rank)]
    whole = [ONE if source is None else shape[source] for source in sources]
    unsqueezed = like(computed(fact), whole, sources.index(fact.axis) if fact.kind is Dependence.ROWS else 0)
    return [msgspec.structs.replace(unsqueezed, content=fact.content, mark=fact.mark)]


def _transpose(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    order = operation.integers("perm") or tuple(reversed(range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        raise Unclear(f"has the order {order} for {len(shape)} axes")
    put = moved([fact], lambda known: known[0].transpose(order))
    return [put or like(fact, [shape[axis] for axis in order], order.index(fact.axis) if shape else 0)]


def _filled(sizes: Sequence[Size]) -> Fact:
    """The fact of a tensor with one value everywhere; if its shape has the rows, each row has the same values."""
    counted = [axis for axis, size in enumerate(sizes) if size.counts_rows]
    return rows(sizes, counted[0]) if counted else constant(sizes)


def _expand(operation: Operation) -> Sequence[Fact]:
    fact, _ = operation.shaped(0)
    if isinstance(fact.mark, Padded | Address):
        raise Mixes(_LAST_AXIS)
    target = target_sizes(operation, 1)
    if any([not size.certain for size in target]):
        raise Unclear("takes a shape that is not known before it runs")
    expanded = broadcast(operation.symbols, [fact, _filled(target)])
    # Expand multiplies by ones of the target's shape. If a constant gets rows by that, its mark no longer fits.
    mark = fact.mark if fact.kind is expanded.kind else None
    return [msgspec.structs.replace(expanded, mark=mark)]


def _constant_of_shape(operation: Operation) -> Sequence[Fact]:
    sizes = target_sizes(operation, 0)
    if any([not size.certain for size in sizes]):
        raise Unclear("takes a shape that is not known before it runs")
    filled = _filled(sizes)
    value = operation.attribute("value")
    if filled.kind is Dependence.CONSTANT and len(sizes) == 1 and sizes[0].known is not None and value is not None:
        whole = [*value.t.int64_data] or list(memoryview(value.t.raw_data).cast("q")) if value.t.data_type == 7 else []
        if whole and sizes[0].known <= 64:
            filled = constant(sizes, [Size(int(whole[0]))] * sizes[0].known)
    return [filled]


def _tile(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    repeats = target_sizes(operation, 1)
    if len(repeats) != len(shape):
        raise Unclear("has not one number of repeats for each axis")
    if any([not size.certain for size in repeats]):
        raise Unclear("repeats as often as is not known before it runs")
    if fact.kind is Dependence.ROWS and repeats[fact.axis] != ONE:
        raise Mixes("repeats the rows one after another")
    whole = [size.times(often) for size, often in zip(shape, repeats, strict=True)]
    if fact.kind is Dependence.ROWS:
        return [rows(whole, fact.axis, fact.outer)]
    if fact.kind is Dependence.COUNT:
        raise Mixes("repeats how many rows there are")
    counted = [axis for axis, often in enumerate(repeats) if often.counts_rows]
    # What is repeated N times is in N pieces, one for each row.
    return [rows(whole, counted[0], ONE) if counted else constant(whole)]


def _range(operation: Operation) -> Sequence[Fact]:
    ends = [operation.needed(place) for place in range(3)]
    if any([fact.kind is Dependence.ROWS for fact in ends]):
        raise Mixes("counts as far as the rows say")
    start, limit, delta = [sizes_in(fact) for fact in ends]
    if start == (Size(0),) and delta == (ONE,) and limit is not None:
        if limit[0] == ROWS:
            return [msgspec.structs.replace(rows([ROWS], 0), mark=Place(ONE, ONE))]
        if limit[0].known is not None and limit[0].known <= MOST_CONTENT:
            whole = max(limit[0].known, 0)
            known = constant((Size(whole),), [Size(place) for place in range(whole)])
            return [msgspec.structs.replace(known, mark=Below(Size(whole)))]
        if not limit[0].counts_rows:
            if not limit[0].certain:
                return [constant([operation.symbols.fresh()])]
            return [msgspec.structs.replace(constant(limit), mark=Below(limit[0]))]
    if any([fact.kind is Dependence.COUNT for fact in ends]):
        raise Mixes("counts as far as there are rows")
    return [constant([operation.symbols.fresh()])]


def _eye_like(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if fact.kind is not Dependence.CONSTANT:
        raise Mixes("gives each row the ones of its place")
    return [constant(shape)]


RULES: OperatorRules = {
    "Shape": Rule(_shape, of_counts=True, of_marks=True),
    "Size": Rule(_size, of_counts=True),
    "Reshape": Rule(_reshape, of_counts=True, of_marks=True),
    "Flatten": Rule(_flatten, of_marks=True),
    "Squeeze": Rule(_squeeze, of_counts=True),
    "Unsqueeze": Rule(_unsqueeze, of_counts=True, of_marks=True),
    "Transpose": Rule(_transpose, of_counts=True),
    "Expand": Rule(_expand, of_counts=True, of_marks=True),
    "ConstantOfShape": Rule(_constant_of_shape, of_counts=True),
    "Tile": Rule(_tile, of_counts=True),
    "Range": Rule(_range, of_counts=True),
    "EyeLike": Rule(_eye_like),
}
