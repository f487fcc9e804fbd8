"""Arithmetic on the elements of small tensors: what a graph computes from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sluice.inference.backends.onnx.proof.contents import elements_of
from sluice.inference.backends.onnx.proof.facts import MOST_CONTENT, Element, Fact
from sluice.inference.backends.onnx.proof.operation import Operation, names
from sluice.inference.backends.onnx.proof.sizes import ZERO, Size, Symbols

_FLOATS, WHOLE, _BOOL = {1: 24, 10: 11, 11: 53, 16: 8}, {6: 31, 7: 63}, 9
"""Element types, by their numbers in ONNX, with the number of bits of the whole numbers that are exact in them."""

_EXACT = 2**31
"""Computed numbers below this are exact in all types that sizes have."""


def cast_content(symbols: Symbols, fact: Fact, to: int) -> tuple[Element, ...] | None:
    """The content, cast to another type. A symbol stands for a number of one type; cast, it becomes another symbol."""
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
    if to in WHOLE:
        if known is not None:
            return Size(int(known)) if math.isfinite(known) and _fits(int(known), WHOLE[to]) else None
        assert isinstance(element, Size)
        if element.certain:
            return element
        return symbols.number(f"whole {to}", element) if not _counts(element) else None
    return None


def _fits(number: float, bits: int) -> bool:
    """Whether a whole number is exact in a type, and does not wrap around."""
    return number == int(number) and -(2**bits) <= number < 2**bits


def _counts(element: Element) -> bool:
    return isinstance(element, Size) and element.counts_rows


def computed_content(operation: Operation, facts: Sequence[Fact]) -> tuple[Element, ...] | None:
    """The content of the output of an arithmetic operator, if the content of all inputs is known; else `None`."""
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
        whole = abs(a.known) // abs(b.known)
        return Size(whole if (a.known < 0) == (b.known < 0) else -whole)
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
    """Computes nothing: the result stays a symbol."""


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
"""By operator, the function that computes known elements; it gives `None` if the result is not known."""


_NUMBERS = names("Add Sub Mul Div Max Min Floor Ceil Round Sqrt Pow")
"""Operators without attributes, which give the same number whenever the operands are the same."""
