"""Operators that compute each element from the elements at its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from inference.backends.onnx.proof.contents import elements_of
from inference.backends.onnx.proof.facts import (
    MOST_CONTENT,
    Below,
    Element,
    Fact,
    Kind,
    Place,
    computed,
    constant,
    count,
    rows,
    sizes_in,
)
from inference.backends.onnx.proof.operation import Mixes, Operation, Rule, Rules, Unclear, axis_of, names
from inference.backends.onnx.proof.sizes import ONE, ZERO, Size, Symbols

UNARY = names(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
"""One input, one output of its shape."""

_FLOATS, _WHOLE, _BOOL = {1: 24, 10: 11, 11: 53, 16: 8}, {6: 31, 7: 63}, 9
"""Element types, by their numbers in ONNX, with the bits of whole numbers that are exact in them."""

_EXACT = 2**31
"""Computed numbers below this are exact in all types that sizes have."""

MANY = names(
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor CastLike Clip Div Equal Greater GreaterOrEqual Less "
    "LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor StringConcat"
)
"""Inputs of shapes that fit one another."""


def widest(symbols: Symbols, one: Size, other: Size) -> Size:
    """The size of an axis of two tensors that are brought to one shape."""
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
    """Tensors that are brought to one shape: the fact of what is computed from the elements at each place.

    Raises `Mixes` where rows would meet others.
    """
    shapes = [fact.shape for fact in facts if fact.shape is not None]
    if len(shapes) < len(facts):
        raise Unclear("has an input of unknown rank")
    if any([fact.kind is Kind.COUNT for fact in facts]):
        raise Mixes("computes with how many rows there are")
    rank = max(map(len, shapes))
    shape = [ONE] * rank
    layout: tuple[int, Size, Size] | None = None
    for fact, own in zip(facts, shapes, strict=True):
        offset = rank - len(own)
        if fact.kind is Kind.ROWS:
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
                if fact.kind is not Kind.ROWS and size != ONE:
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
        if not fact.plain and to not in _WHOLE:
            raise Mixes("reads what the batch decides")
        cast = _cast(operation.symbols, fact, to)
        return [msgspec.structs.replace(fact, content=cast, mark=fact.mark if to in _WHOLE else None)]
    content = _computed(operation, [fact])
    if fact.kind is Kind.COUNT:
        return [count(fact.shape, content)]
    return [computed(fact, content)]


def _cast(symbols: Symbols, fact: Fact, to: int) -> tuple[Element, ...] | None:
    """The content in another type. Symbols stand for a number of one type: as another, it is another symbol."""
    if fact.content is None:
        return None
    cast = [_as_type(symbols, each, to) for each in fact.content]
    kept = [each for each in cast if each is not None]
    return tuple(kept) if len(kept) == len(cast) else None


def _as_type(symbols: Symbols, element: Element, to: int) -> Element | None:
    known = element.known if isinstance(element, Size) else element
    if to == _BOOL:
        return None if known is None else bool(known)
    if to in _FLOATS:
        if known is not None:
            return float(known) if math.isfinite(known) and (to == 11 or _fits(known, _FLOATS[to])) else None
        return symbols.number(f"float {to}", element) if not _counts(element) else None
    if to in _WHOLE:
        if known is not None:
            return Size(int(known)) if math.isfinite(known) and _fits(int(known), _WHOLE[to]) else None
        assert isinstance(element, Size)
        if element.certain:
            return element
        return symbols.number(f"whole {to}", element) if not _counts(element) else None
    return None


def _fits(number: float, bits: int) -> bool:
    """Whether a whole number is exact, and does not wrap around."""
    return number == int(number) and -(2**bits) <= number < 2**bits


def _counts(element: Element) -> bool:
    return isinstance(element, Size) and element.counts_rows


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
    content = _computed(operation, facts)
    if any([fact.kind is Kind.COUNT for fact in facts]):
        if any([fact.kind is Kind.ROWS for fact in facts]):
            raise Mixes("brings rows together with how many there are")
        return [count(_counted_shape(operation.symbols, facts), content)]
    fact = broadcast(operation.symbols, facts)
    return [msgspec.structs.replace(fact, content=content) if content is not None else fact]


def _placed(operation: Operation, facts: Sequence[Fact]) -> Fact | None:
    """The places of rows, times a size or plus what lies below one; `None` where there are none.

    PyTorch addresses the elements of rows in this way, as in `mask.flatten()[arange(N) * steps + arange(steps)]`.
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
    if found is None or other.kind is not Kind.CONSTANT:
        raise Mixes("computes with what the batch decides")
    whole = broadcast(operation.symbols, [msgspec.structs.replace(places[0], mark=None), other])
    return msgspec.structs.replace(whole, mark=found)


def _counted_shape(symbols: Symbols, facts: Sequence[Fact]) -> tuple[Size, ...]:
    return broadcast(symbols, [constant(fact.shape) for fact in facts]).shape or ()


def _computed(operation: Operation, facts: Sequence[Fact]) -> tuple[Element, ...] | None:
    """The content, where that of all inputs is known and small, and the operator is one of arithmetic."""
    compute = _ARITHMETIC.get(operation.name)
    known = [elements_of(fact) for fact in facts]
    if compute is None or any([each is None for each in known]):
        return None
    try:
        pairs = np.broadcast(*[each for each in known if each is not None])
    except ValueError:
        return None
    if pairs.size > MOST_CONTENT:
        return None
    found: list[Element] = []
    for operands in pairs:
        element = compute(operation.symbols, operands)
        if isinstance(element, Size) and abs(element.factor) >= _EXACT and element not in operands:
            return None  # smaller types wrap around
        if element is None:
            if operation.name not in _NUMBERS or any([_counts(each) for each in operands]):
                return None
            element = operation.symbols.number(operation.name, *operands)
        found.append(element)
    return tuple(found)


def _add(symbols: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    if not isinstance(a, Size) or not isinstance(b, Size):
        return None
    if a == ZERO or b == ZERO:
        return a if b == ZERO else b
    if a.symbols == b.symbols:
        whole = a.factor + b.factor
        return Size(whole, a.symbols if whole else ())
    if a.counts_rows or b.counts_rows:
        return None
    if a.certain and b.certain:
        return symbols.of("+", *sorted((a, b), key=str))
    return symbols.number("+", *sorted((a, b), key=str))


def _subtract(symbols: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    return _add(symbols, [a, Size(-b.factor, b.symbols)]) if isinstance(b, Size) else None


def _multiply(symbols: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    if isinstance(a, Size) and isinstance(b, Size):
        return a.times(b)
    return None


def _divide(symbols: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    if not isinstance(a, Size) or not isinstance(b, Size):
        return None
    exact = a.over(b)
    if exact is not None or a.counts_rows or b.counts_rows:
        return exact
    if a.known is not None and b.known:  # whole numbers are cut towards zero
        return Size(int(a.known / b.known))
    return symbols.number("/", a, b)


def _remainder(_: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    if (
        not isinstance(a, Size)
        or not isinstance(b, Size)
        or a.known is None
        or not b.known
        or min(a.known, b.known) < 0
    ):
        return None
    return Size(a.known % b.known)


def _equal(_: Symbols, operands: Sequence[Element]) -> Element | None:
    a, b = operands
    if not isinstance(a, Size) or not isinstance(b, Size):
        return a == b if type(a) is type(b) else None
    if a == b:
        return True
    if not a.symbols and not b.symbols:
        return False
    return False if (a.certain and b.factor < 0) or (b.certain and a.factor < 0) else None


def _chosen(_: Symbols, operands: Sequence[Element]) -> Element | None:
    condition, a, b = operands
    return None if not isinstance(condition, bool) else a if condition else b


def _compared(compare: Callable[[int, int], bool]) -> Callable[[Symbols, Sequence[Element]], Element | None]:
    def compute(_: Symbols, operands: Sequence[Element]) -> Element | None:
        a, b = operands
        if isinstance(a, Size) and isinstance(b, Size) and a.known is not None and b.known is not None:
            return compare(a.known, b.known)
        return None

    return compute


def _picked(pick: Callable[[Sequence[int]], int]) -> Callable[[Symbols, Sequence[Element]], Element | None]:
    def compute(_: Symbols, operands: Sequence[Element]) -> Element | None:
        sizes = [each for each in operands if isinstance(each, Size)]
        if len(sizes) == len(operands) and all([size == sizes[0] for size in sizes]):
            return sizes[0]
        known = [size.known for size in sizes if size.known is not None]
        return Size(pick(known)) if len(known) == len(operands) else None

    return compute


def _unnamed(_: Symbols, __: Sequence[Element]) -> None:
    """A number that stays a symbol."""


def _negated(_: Symbols, operands: Sequence[Element]) -> Element | None:
    (a,) = operands
    if isinstance(a, bool):
        return not a
    return Size(-a.factor, a.symbols) if isinstance(a, Size) else None


_ARITHMETIC: Mapping[str, Callable[[Symbols, Sequence[Element]], Element | None]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Mod": _remainder,
    "Equal": _equal,
    "Where": _chosen,
    "Less": _compared(lambda a, b: a < b),
    "LessOrEqual": _compared(lambda a, b: a <= b),
    "Greater": _compared(lambda a, b: a > b),
    "GreaterOrEqual": _compared(lambda a, b: a >= b),
    "And": lambda _, operands: all(operands) if all([isinstance(each, bool) for each in operands]) else None,
    "Or": lambda _, operands: any(operands) if all([isinstance(each, bool) for each in operands]) else None,
    "Max": _picked(max),
    "Min": _picked(min),
    "Floor": _unnamed,
    "Ceil": _unnamed,
    "Round": _unnamed,
    "Sqrt": _unnamed,
    "Pow": _unnamed,
    "Neg": _negated,
    "Not": _negated,
}
"""By operator, what becomes of known elements; `None` where that is not known."""


_NUMBERS = names("Add Sub Mul Div Max Min Floor Ceil Round Sqrt Pow")
"""Operators without attributes: the same one gives the same number for the same operands."""


def scaled(operation: Operation, scales: Sequence[int], default_axis: int = 1) -> Fact:
    """Elements with a scale or zero point that is the same for all, or one for each place along an axis."""
    fact, shape = operation.shaped(0)
    for place in scales:
        scale = operation.same_for_all(place, "the scale")
        if scale is None or scale.rank == 0 or scale.shape == (ONE,):
            continue
        if scale.shape is None:
            raise Unclear("has a scale of unknown rank")
        if len(scale.shape) > 1:
            raise Unclear("has a scale for each of several axes")
        axis = axis_of(operation.integer("axis", default_axis), len(shape))
        if fact.kind is Kind.ROWS and fact.axis == axis:
            raise Mixes("has a scale of its own for each place along the rows")
    return computed(fact)


def _quantised(operation: Operation) -> Sequence[Fact]:
    return [scaled(operation, (1, 2))]


def _dynamically_quantised(operation: Operation) -> Sequence[Fact]:
    raise Mixes("takes its scale from the smallest and largest value of the whole batch")


RULES: Rules = {
    **{name: Rule(_unary, of_counts=True, of_marks=name in ("Cast", "Identity")) for name in UNARY},
    **{name: Rule(_many, of_counts=True, of_marks=name in ("Add", "Mul")) for name in MANY},
    "QuantizeLinear": Rule(_quantised),
    "DequantizeLinear": Rule(_quantised),
    "DynamicQuantizeLinear": Rule(_dynamically_quantised),
}
