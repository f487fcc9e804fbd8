"""Operators that cut, join, pad and sort elements."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from sluice.inference.backends.onnx.proof.contents import moved
from sluice.inference.backends.onnx.proof.facts import (
    Address,
    Dependence,
    Fact,
    Place,
    constant,
    count,
    numbers_in,
    rows,
    sizes_in,
)
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.rules.picking import beside, same_rows
from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, ZERO, Size

_TO_THE_END = 2**31 - 1


def _slice(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    starts, ends, steps, axes = _spans(operation, len(shape))
    whole = list(shape)
    for place, named in enumerate(axes):
        axis = axis_of(named, len(shape))
        start, end = (None if each is None else each[place] for each in (starts, ends))
        step = 1 if steps is None else steps[place].known
        to_the_end = end is not None and (end == shape[axis] or (end.known is not None and end.known >= _TO_THE_END))
        if start == ZERO and to_the_end and step == 1:
            continue
        if fact.kind is Dependence.ROWS and fact.axis == axis:
            raise Mixes("takes some of the rows by their places in the batch")
        whole[axis] = _span(operation, shape[axis], start, end, step)
    part = moved([fact], lambda known: known[0][_slices(shape, axes, starts, ends, steps)])
    return [part or like(fact, whole, fact.axis)]


def _spans(
    operation: Operation, rank: int
) -> tuple[Sequence[Size] | None, Sequence[Size] | None, Sequence[Size] | None, Sequence[int]]:
    """Starts, ends and steps, or `None` if they are not known, and the axes."""
    if operation.has("starts"):
        starts = tuple([Size(each) for each in operation.integers("starts") or ()])
        ends = tuple([Size(each) for each in operation.integers("ends") or ()])
        return starts, ends, None, operation.integers("axes") or range(len(starts))
    facts = [operation.input(place) for place in range(1, 5)]
    for fact in facts:
        if fact is not None and fact.kind is Dependence.ROWS:
            raise Mixes("takes of all rows what one of them says")
    known = [sizes_in(fact) for fact in (*facts[:2], facts[3])]
    if facts[2] is not None:
        axes = numbers_in(facts[2])
    else:
        length = facts[0].shape[0].known if facts[0] is not None and facts[0].shape else None
        axes = None if length is None else tuple(range(length))
    if axes is None:
        raise Unclear("takes axes that are not known before it runs")
    for fact, found in zip((*facts[:2], facts[3]), known, strict=True):
        counts = fact is not None and fact.kind is Dependence.COUNT
        if counts and (fact is facts[3] or found is None or any([each.counts_rows and each != ROWS for each in found])):
            raise Mixes("takes as much as there are rows")
        if found is not None and len(found) != len(axes):
            raise Unclear("has not one start and end for each axis")
    steps = known[2]
    if facts[3] is not None and steps is None:
        steps = tuple([operation.symbols.fresh() for _ in axes])
    return known[0], known[1], steps, axes


def _span(operation: Operation, size: Size, start: Size | None, end: Size | None, step: int | None) -> Size:
    if any([each is not None and each.counts_rows for each in (start, end)]):
        raise Mixes("takes as much as there are rows")
    if start is None or end is None or step is None:
        return operation.symbols.fresh()
    if size.known is not None and start.known is not None and end.known is not None and step:
        if step < 0 and (start.known < -size.known or end.known >= _TO_THE_END):
            return operation.symbols.fresh()  # the engine takes a start before the first element for it, and so on
        return Size(len(range(*slice(start.known, end.known, step).indices(size.known))))
    if start == ZERO and step == 1 and end.certain and not end.known:
        return operation.symbols.of("least", size, end)
    return operation.symbols.of("span", size, start, end, step)


def _slices(
    shape: Sequence[Size],
    axes: Sequence[int],
    starts: Sequence[Size] | None,
    ends: Sequence[Size] | None,
    steps: Sequence[Size] | None,
) -> tuple[slice, ...]:
    """The slices along all axes. Raises `ValueError` if one is not known, or if engines may treat it differently."""
    found = [slice(None)] * len(shape)
    for place, named in enumerate(axes):
        axis = axis_of(named, len(shape))
        start, end = [None if each is None else each[place].known for each in (starts, ends)]
        step = 1 if steps is None else steps[place].known
        size = shape[axis].known
        if start is None or end is None or size is None or not step:
            raise ValueError("a bound is not known")
        if step < 0 and (start < -size or end >= _TO_THE_END):
            raise ValueError("the engine takes a start before the first element for it")
        found[axis] = slice(start, None if _beyond(end, step) else end, step)
    return tuple(found)


def _beyond(end: int, step: int) -> bool:
    """Whether a span that goes backwards ends before the first element: such an end is not counted from the back."""
    return step < 0 and end <= -_TO_THE_END


def _split(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    axis = axis_of(operation.integer("axis"), len(shape))
    beside(operation, fact, axis, "splits")
    parts = operation.integers("split") or numbers_in(operation.same_for_all(1, "the sizes of parts"))
    size = shape[axis].known
    if parts is None and operation.input(1) is None and size is not None:
        each = -(-size // operation.outputs)
        parts = tuple([min(each, size - place * each) for place in range(operation.outputs)])
    if parts is not None and min(parts, default=0) < 0:
        raise Unclear("splits into parts of less than nothing")
    sizes = [operation.symbols.fresh() for _ in range(operation.outputs)] if parts is None else [Size(p) for p in parts]
    if fact.content is not None and parts is not None:
        ends = [sum(parts[: place + 1]) for place in range(len(parts))]
        pieces = [
            moved([fact], lambda known, part=part, end=end: known[0].take(range(end - part, end), axis))  # type: ignore[misc]
            for part, end in zip(parts, ends, strict=True)
        ]
        if None not in pieces:
            return [piece for piece in pieces if piece is not None]
    return [like(fact, [*shape[:axis], part, *shape[axis + 1 :]], fact.axis) for part in sizes]


def _concat(operation: Operation) -> Sequence[Fact]:
    facts = [operation.shaped(place) for place in range(len(operation.inputs))]
    first, shape = facts[0]
    axis = axis_of(operation.integer("axis"), len(shape))
    joined = moved([fact for fact, _ in facts], lambda known: np.concatenate(known, axis))
    if joined is not None:
        return [joined]
    if len(facts) == 1:
        return [first]
    if any([fact.kind is Dependence.COUNT for fact, _ in facts]):
        if len(shape) == 1 and all([fact.kind in (Dependence.COUNT, Dependence.CONSTANT) for fact, _ in facts]):
            return [count(None)]
        raise Mixes("joins how many rows there are to something else")
    with_rows = same_rows([fact for fact, _ in facts])
    whole = list(shape)
    whole[axis] = _together(operation, [own[axis] for _, own in facts])
    if with_rows is None:
        return [constant(whole)]
    assert with_rows.shape is not None
    if any([fact.kind is Dependence.CONSTANT for fact, _ in facts]):
        raise Unclear("joins to each row what has no rows")
    if with_rows.axis == axis:
        return [_end_to_end(with_rows, whole, [fact for fact, _ in facts])]
    whole[with_rows.axis] = with_rows.shape[with_rows.axis]
    joined_rows = rows(whole, with_rows.axis, with_rows.outer)
    if all([fact.plain for fact, _ in facts]):
        return [joined_rows]
    places, others = facts[0], facts[1:]
    if (
        places[0].mark == Place(ONE, ONE)
        and axis == len(shape) - 1
        and places[1][axis] == ONE
        and all([f.plain for f, _ in others])
    ):
        return [msgspec.structs.replace(joined_rows, mark=Address())]
    raise Mixes("joins the places of rows to something else")


def _end_to_end(first: Fact, shape: Sequence[Size], facts: Sequence[Fact]) -> Fact:
    """The fact of tensors joined along the axis of the rows: each row occurs once in each of them."""
    if not all([fact.plain for fact in facts]):
        raise Mixes("joins the places of rows to something else")
    assert first.shape is not None
    whole, pieces = list(shape), Size(len(facts))
    whole[first.axis] = first.shape[first.axis].times(pieces)
    return rows(whole, first.axis, first.outer.times(pieces))


def _together(operation: Operation, sizes: Sequence[Size]) -> Size:
    known = [size.known for size in sizes if size.known is not None]
    return Size(sum(known)) if len(known) == len(sizes) else operation.symbols.of("joined", *sizes)


def _pad(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    operation.same_for_all(2, "what it pads with")
    pads = operation.integers("pads") or operation.integers("paddings")
    if pads is None:
        if (found := operation.needed(1)).kind is Dependence.ROWS:
            raise Mixes("pads all rows as one of them says")
        pads_in = sizes_in(found)
        if pads_in is None:
            raise Unclear("pads by sizes that are not known before it runs")
    else:
        pads_in = tuple([Size(each) for each in pads])
    axes = numbers_in(operation.input(3)) if operation.input(3) is not None else tuple(range(len(shape)))
    if axes is None or len(pads_in) != 2 * len(axes):
        raise Unclear("pads axes that are not known before it runs")
    whole = list(shape)
    for place, named in enumerate(axes):
        before, after = pads_in[place], pads_in[place + len(axes)]
        if before == ZERO and after == ZERO:
            continue
        axis = axis_of(named, len(shape))
        beside(operation, fact, axis, "pads")
        if before.counts_rows or after.counts_rows:
            raise Mixes("pads by how many rows there are")
        size = whole[axis]
        if None in (size.known, before.known, after.known):
            whole[axis] = operation.symbols.of("padded", size, before, after)
        else:
            whole[axis] = Size(size.factor + before.factor + after.factor)
    return [like(fact, whole, fact.axis)]


def _top_k(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    axis = axis_of(operation.integer("axis", -1), len(shape))
    beside(operation, fact, axis, "sorts")
    if operation.opset < 10:
        size = Size(operation.integer("k"))
    else:
        known = sizes_in(operation.same_for_all(1, "how many to keep"))
        size = operation.symbols.fresh() if known is None else known[0]
    kept = like(fact, [*shape[:axis], size, *shape[axis + 1 :]], fact.axis)
    return [kept, kept]


def _one_hot(operation: Operation) -> Sequence[Fact]:
    indices, shape = operation.shaped(0)
    depth = sizes_in(operation.same_for_all(1, "the depth"))
    operation.same_for_all(2, "the values")
    axis = axis_of(operation.integer("axis", -1), len(shape) + 1)
    size = operation.symbols.fresh() if depth is None else depth[0]
    moved = indices.axis + (axis <= indices.axis)
    return [like(indices, [*shape[:axis], size, *shape[axis:]], moved)]


def _compress(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    operation.same_for_all(1, "what is kept")
    if not operation.has("axis"):
        if fact.kind is Dependence.ROWS:
            raise Mixes("lays all rows end to end")
        return [constant([operation.symbols.fresh()])]
    axis = axis_of(operation.integer("axis"), len(shape))
    beside(operation, fact, axis, "drops elements")
    return [like(fact, [*shape[:axis], operation.symbols.fresh(), *shape[axis + 1 :]], fact.axis)]


def _trilu(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    operation.same_for_all(1, "the diagonal")
    if fact.kind is Dependence.ROWS and fact.axis >= len(shape) - 2:
        raise Mixes("keeps of each row what its place says")
    return [like(fact, shape, fact.axis)]


def _reverse_sequence(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    lengths = operation.needed(1)
    if lengths.kind is not fact.kind:
        raise Mixes("reverses what has no rows as each of them says, or each row by its place")
    if fact.kind is Dependence.ROWS:
        if fact.axis != axis_of(operation.integer("batch_axis", 1), len(shape)):
            raise Mixes("reverses along the axis of the rows")
        assert lengths.shape is not None
        same_rows([msgspec.structs.replace(fact, axis=0, shape=(shape[fact.axis],)), lengths])
    return [like(fact, shape, fact.axis)]


def _mixing(because: str) -> Rule:
    def follow(_: Operation) -> Sequence[Fact]:
        raise Mixes(because)

    return Rule(follow)


RULES: OperatorRules = {
    "Slice": Rule(_slice, of_counts=True),
    "Split": Rule(_split, of_counts=True),
    "Concat": Rule(_concat, of_counts=True, of_marks=True),
    "Pad": Rule(_pad, of_counts=True),
    "TopK": Rule(_top_k),
    "OneHot": Rule(_one_hot),
    "Compress": Rule(_compress),
    "Trilu": Rule(_trilu),
    "ReverseSequence": Rule(_reverse_sequence),
    "NonZero": _mixing("lists the elements of all rows that are not zero, and its axis 0 is not the rows"),
    "Unique": _mixing("looks for equal elements in all rows"),
    "NonMaxSuppression": _mixing("lists the boxes of all pictures, and its axis 0 is not the rows"),
    "RoiAlign": _mixing("takes boxes of the pictures that another input names by their places in the batch"),
    "MaxRoiPool": _mixing("takes boxes of the pictures that another input names by their places in the batch"),
    "MaxUnpool": _mixing("writes to places that are counted over the whole batch"),
}
