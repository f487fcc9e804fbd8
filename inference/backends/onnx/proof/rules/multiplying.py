"""Operators that multiply matrices."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, constant, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear
from sluice.inference.backends.onnx.proof.rules.elementwise import broadcast, widest
from sluice.inference.backends.onnx.proof.rules.picking import same_rows
from sluice.inference.backends.onnx.proof.sizes import ONE, Size, Symbols

_SUMS = "multiplies and adds up along the axis of the rows"


def multiplied(symbols: Symbols, left: Fact, right: Fact, turned: tuple[bool, bool] = (False, False)) -> Fact:
    """The fact of a matrix product, as numpy's matmul; `turned` says whose last two axes are exchanged first."""
    if left.shape is None or right.shape is None:
        raise Unclear("has an input of unknown rank")
    if not left.shape or not right.shape:
        raise Unclear("multiplies a single value")
    vectors = (len(left.shape) == 1, len(right.shape) == 1)
    left = _turned(_matrix(left, before=True), turned[0] and not vectors[0])
    right = _turned(_matrix(right, before=False), turned[1] and not vectors[1])
    product = _of_matrices(symbols, left, right)
    assert product.shape is not None or product.kind is Dependence.MIXED
    return _without(product, vectors)


def _matrix(fact: Fact, *, before: bool) -> Fact:
    """The fact of a vector as a matrix with one row, or with one column."""
    assert fact.shape is not None
    if len(fact.shape) > 1:
        return fact
    shape = (ONE, *fact.shape) if before else (*fact.shape, ONE)
    return msgspec.structs.replace(fact, shape=shape, axis=fact.axis + before, content=None, mark=None)


def _turned(fact: Fact, turn: bool) -> Fact:
    if not turn:
        return fact
    assert fact.shape is not None
    rank = len(fact.shape)
    order = [*range(rank - 2), rank - 1, rank - 2]
    shape = tuple([fact.shape[axis] for axis in order])
    return msgspec.structs.replace(fact, shape=shape, axis=order.index(fact.axis))


def _of_matrices(symbols: Symbols, left: Fact, right: Fact) -> Fact:
    assert left.shape is not None
    assert right.shape is not None
    for fact, summed in ((left, len(left.shape) - 1), (right, len(right.shape) - 2)):
        if fact.kind is Dependence.ROWS and fact.axis == summed:
            raise Mixes(_SUMS)
    ends = (left.shape[-2], right.shape[-1])
    # The product has one axis of each matrix; the axes before them are broadcast to one shape.
    return broadcast(
        symbols,
        [
            msgspec.structs.replace(left, shape=(*left.shape[:-2], ends[0], ONE), content=None),
            msgspec.structs.replace(right, shape=(*right.shape[:-2], ONE, ends[1]), content=None),
        ],
    )


def _without(product: Fact, vectors: tuple[bool, bool]) -> Fact:
    """The product without the axes that were added to vectors."""
    if product.shape is None:
        return product
    shape, axis = list(product.shape), product.axis
    if vectors[1]:
        del shape[-1]
    if vectors[0]:
        place = len(shape) - 1 - (not vectors[1])
        del shape[place]
        axis -= product.kind is Dependence.ROWS and axis > place
    return msgspec.structs.replace(product, shape=tuple(shape), axis=axis)


def _mat_mul(operation: Operation) -> Sequence[Fact]:
    return [multiplied(operation.symbols, operation.needed(0), operation.needed(1))]


def _of_integers(operation: Operation) -> Sequence[Fact]:
    for place in range(2, len(operation.inputs)):
        operation.same_for_all(place, "a zero point or scale")
    return _mat_mul(operation)


def _quantised(operation: Operation) -> Sequence[Fact]:
    for place in (1, 2, 4, 5, 6, 7):
        operation.same_for_all(place, "a zero point or scale")
    return [multiplied(operation.symbols, operation.needed(0), operation.needed(3))]


def _gemm(operation: Operation) -> Sequence[Fact]:
    turned = (operation.flag("transA"), operation.flag("transB"))
    product = multiplied(operation.symbols, operation.needed(0), operation.needed(1), turned)
    added = operation.input(2)
    if added is None or product.kind is Dependence.MIXED:
        return [product]
    return [broadcast(operation.symbols, [product, added])]


def _einsum(operation: Operation) -> Sequence[Fact]:
    equation = operation.text("equation").replace(" ", "")
    taken, arrow, given = equation.partition("->")
    terms = taken.split(",")
    if "." in equation or len(terms) != len(operation.inputs) or not re.fullmatch(r"[A-Za-z,]*", taken):
        raise Unclear(f"has the equation {equation!r}, which is not followed")
    if not arrow:
        given = "".join(sorted({each for each in taken.replace(",", "") if taken.count(each) == 1}))
    sizes: dict[str, Size] = {}
    letters: set[str] = set()
    facts = [operation.shaped(place) for place in range(len(terms))]
    for term, (fact, shape) in zip(terms, facts, strict=True):
        if len(term) != len(shape):
            raise Unclear(f"has the equation {equation!r} for an input of {len(shape)} axes")
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = widest(operation.symbols, sizes[letter], size) if letter in sizes else size
        if fact.kind is Dependence.ROWS:
            letters.add(term[fact.axis])
            if term.count(term[fact.axis]) > 1:
                raise Mixes("takes a diagonal along the axis of the rows")
    if not letters:
        return [constant([sizes[letter] for letter in given])]
    if len(letters) > 1:
        raise Mixes("brings rows together along two axes, so that each meets all others")
    (letter,) = letters
    if letter not in given:
        raise Mixes(_SUMS)
    for term, (fact, shape) in zip(terms, facts, strict=True):
        if letter in term and fact.kind is not Dependence.ROWS and shape[term.index(letter)] != ONE:
            raise Mixes("brings rows together with what has an axis of their size and is the same for all")
    at_axis = [
        msgspec.structs.replace(fact, axis=0, shape=(shape[fact.axis],))
        for fact, shape in facts
        if fact.kind is Dependence.ROWS
    ]
    first = same_rows(at_axis)
    assert first is not None
    assert first.shape is not None
    sizes[letter] = first.shape[0]
    return [rows([sizes[each] for each in given], given.index(letter), first.outer)]


def _square(operation: Operation) -> Sequence[Fact]:
    """Handles each matrix of the last two axes by itself."""
    fact, shape = operation.shaped(0)
    if fact.kind is Dependence.ROWS and fact.axis >= len(shape) - 2:
        raise Mixes("takes the rows together as one matrix")
    kept = shape[:-2] if operation.name == "Det" else shape
    return [msgspec.structs.replace(fact, shape=kept, content=None, mark=None)]


RULES: OperatorRules = {
    "MatMul": Rule(_mat_mul),
    "MatMulInteger": Rule(_of_integers),
    "QLinearMatMul": Rule(_quantised),
    "Gemm": Rule(_gemm),
    "Einsum": Rule(_einsum),
    "Det": Rule(_square),
    "Inverse": Rule(_square),
}
