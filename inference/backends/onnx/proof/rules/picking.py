"""Operators that pick elements by their places, and write to places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sluice.inference.backends.onnx.proof.contents import Elements, moved
from sluice.inference.backends.onnx.proof.facts import (
    Address,
    Dependence,
    Fact,
    Place,
    computed,
    constant,
    count,
    inner_of,
)
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, axis_of, like
from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, Size


def same_rows(facts: Sequence[Fact]) -> Fact | None:
    """The first of several tensors that has rows; `None` if none has.

    Raises `Mixes` if the rows are along different axes, and `Unclear` if their layouts differ.
    """
    first: Fact | None = None
    for fact in facts:
        if fact.kind is not Dependence.ROWS:
            continue
        assert fact.shape is not None
        if first is None:
            first = fact
            continue
        assert first.shape is not None
        if first.axis != fact.axis:
            raise Mixes(f"brings rows along axis {first.axis} together with rows along axis {fact.axis}")
        if first.outer != fact.outer or first.shape[first.axis] != fact.shape[fact.axis]:
            raise Unclear(f"brings {first.shape[first.axis]} and {fact.shape[fact.axis]} rows together")
    return first


def beside(operation: Operation, fact: Fact, axis: int, doing: str) -> None:
    """Raises `Mixes` if the rows are along the axis on which an operator works: along others it keeps rows apart."""
    if fact.kind is Dependence.ROWS and fact.axis == axis:
        raise Mixes(f"{doing} along the axis of the rows")


def _gather(operation: Operation) -> Sequence[Fact]:
    data, shape = operation.shaped(0)
    indices, places = operation.shaped(1)
    axis = axis_of(operation.integer("axis"), len(shape))
    whole = (*shape[:axis], *places, *shape[axis + 1 :])
    if not data.plain:
        raise Mixes("takes from what the batch decides")
    if data.kind is Dependence.ROWS:
        if data.axis == axis:
            if not _own_places(data, indices):
                raise Mixes("takes rows by their places in the batch")
            return [like(computed(indices), whole, axis + indices.axis)]
        if indices.kind is not Dependence.CONSTANT:
            raise Mixes("takes from each row what another row says")
        return [like(data, whole, data.axis if data.axis < axis else data.axis + len(places) - 1)]
    if indices.kind is Dependence.ROWS:
        if data.kind is Dependence.COUNT:
            raise Mixes("takes from the number of rows")
        if not indices.plain:
            raise Mixes("takes for each row what its place in the batch says")
        return [like(indices, whole, axis + indices.axis)]
    picked = moved([data, indices], lambda known: known[0].take(_whole_numbers(known[1]), axis))
    if picked is not None:
        return [picked]
    if Dependence.COUNT in (data.kind, indices.kind):
        return [count(whole)]
    return [constant(whole)]


def _own_places(data: Fact, indices: Fact) -> bool:
    """Whether the places for each row are in its own part of the data: `n * inner` to `n * inner + inner - 1`."""
    if (
        indices.kind is not Dependence.ROWS
        or not isinstance(indices.mark, Place)
        or data.outer != ONE
        or not data.plain
    ):
        return False
    inner, (stride, below) = inner_of(data), (indices.mark.stride, indices.mark.below)
    if stride != inner:
        return False
    return below in (inner, ONE) or (below.known is not None and inner.known is not None and below.known <= inner.known)


def _whole_numbers(elements: Elements) -> npt.NDArray[np.int64]:
    """The elements as numbers. Raises `ValueError` if one of them is a symbol."""
    known = [each.known if isinstance(each, Size) else None for each in elements.ravel()]
    if None in known:
        raise ValueError("a place is not known")
    return np.array(known, np.int64).reshape(elements.shape)


def _gather_elements(operation: Operation) -> Sequence[Fact]:
    data, _ = operation.shaped(0)
    indices, places = operation.shaped(1)
    axis = axis_of(operation.integer("axis"), len(places))
    if data.kind is Dependence.ROWS and indices.kind is Dependence.ROWS:
        same_rows([data, indices])
        beside(operation, data, axis, "picks elements")
        return [like(indices, places, indices.axis)]
    if data.kind is Dependence.ROWS:
        raise Mixes("takes rows by their places in the batch")
    if indices.kind is Dependence.ROWS and indices.axis != axis:
        raise Mixes("takes for each row what lies at its place")
    return [like(indices, places, indices.axis)]


def _gather_nd(operation: Operation) -> Sequence[Fact]:
    data, shape = operation.shaped(0)
    indices, places = operation.shaped(1)
    depth = places[-1].known if places else None
    if depth is None:
        raise Unclear("takes addresses of a length that is not known")
    batch_axes = operation.integer("batch_dims")
    whole = (*places[:-1], *shape[batch_axes + depth :])
    if data.kind is not Dependence.ROWS and indices.kind is not Dependence.ROWS:
        return [constant(whole)]
    if not data.plain:
        raise Mixes("takes from what the batch decides")
    if data.kind is Dependence.ROWS and indices.kind is Dependence.ROWS:
        same_rows([data, indices])
        if batch_axes > data.axis and indices.plain:
            return [like(indices, whole, indices.axis)]
        if (
            isinstance(indices.mark, Address)
            and data.axis == 0
            and batch_axes == 0
            and shape[0] == ROWS
            and len(places) > 1
        ):
            return [like(computed(indices), whole, indices.axis)]
    elif (
        indices.kind is Dependence.ROWS
        and indices.plain
        and indices.axis >= batch_axes
        and indices.axis < len(places) - 1
    ):
        return [like(indices, whole, indices.axis)]
    raise Mixes("takes rows by their places in the batch")


def _scatter_elements(operation: Operation) -> Sequence[Fact]:
    facts = [operation.needed(place) for place in range(3)]
    data, shape = operation.shaped(0)
    axis = axis_of(operation.integer("axis"), len(shape))
    if all([fact.kind is Dependence.CONSTANT for fact in facts]):
        return [constant(shape)]
    if not all([fact.kind is Dependence.ROWS for fact in facts]):
        raise Mixes("writes to rows by their places in the batch")
    same_rows(facts)
    beside(operation, data, axis, "writes")
    return [like(data, shape, data.axis)]


def _scatter_nd(operation: Operation) -> Sequence[Fact]:
    _, shape = operation.shaped(0)
    if all([operation.needed(place).kind is Dependence.CONSTANT for place in range(3)]):
        return [constant(shape)]
    raise Mixes("writes to rows by their places in the batch")


RULES: OperatorRules = {
    "Gather": Rule(_gather, of_counts=True, of_marks=True),
    "GatherElements": Rule(_gather_elements),
    "GatherND": Rule(_gather_nd, of_marks=True),
    "Scatter": Rule(_scatter_elements),
    "ScatterElements": Rule(_scatter_elements),
    "ScatterND": Rule(_scatter_nd),
}
