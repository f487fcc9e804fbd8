"""Sizes of axes as products of a whole number and of symbols for sizes that are known only in a run.

The number of rows in a batch is one symbol, `ROWS`. All other symbols are the same for every row that may be in the
same batch, since only rows of equal shapes are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_ROWS = "N"


class Size(msgspec.Struct, frozen=True):
    """`factor` times the product of `symbols`, which are in alphabetical order and may occur more than once."""

    factor: int
    symbols: tuple[str, ...] = ()

    @property
    def known(self) -> int | None:
        """The number; `None` if there is a symbol in it."""
        return None if self.symbols else self.factor

    @property
    def counts_rows(self) -> bool:
        """Whether it changes with the rows of the batch."""
        return _ROWS in self.symbols

    @property
    def certain(self) -> bool:
        """Whether it is surely the size of an axis: 1 or more, or 0 if there is no data at all."""
        return self.factor >= 0 and not any([symbol.startswith("?") for symbol in self.symbols])

    def times(self, other: Size) -> Size:
        """The product."""
        factor = self.factor * other.factor
        return Size(factor, tuple(sorted(self.symbols + other.symbols)) if factor else ())

    def over(self, other: Size) -> Size | None:
        """The quotient, if it is a whole number for all values of the symbols; `None` if that is not known."""
        if not other.factor or self.factor % other.factor:
            return None
        left = list(self.symbols)
        for symbol in other.symbols:
            if symbol not in left:
                return None
            left.remove(symbol)
        return Size(self.factor // other.factor, tuple(left))

    def __str__(self) -> str:
        if not self.symbols:
            return str(self.factor)
        words = " x ".join(self.symbols)
        return words if self.factor == 1 else f"{self.factor} x {words}"


ROWS = Size(1, (_ROWS,))
ONE = Size(1)
ZERO = Size(0)


def product(sizes: Iterable[Size]) -> Size:
    """The product of all sizes; 1 if there are none."""
    whole = ONE
    for size in sizes:
        whole = whole.times(size)
    return whole


class Symbols:
    """Makes symbols for sizes that only a run can tell: the same one for the same operation on the same sizes."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Size] = {}
        self._fresh = 0

    def of(self, operation: str, *operands: object) -> Size:
        """The symbol for the size that an operation gives."""
        key = (operation, *operands)
        if key not in self._known:
            self._known[key] = Size(1, (f"s{len(self._known)}",))
        return self._known[key]

    def number(self, operation: str, *operands: object) -> Size:
        """The symbol for a number that may be negative, a fraction or zero, and so is no size."""
        key = ("number", operation, *operands)
        if key not in self._known:
            self._known[key] = Size(1, (f"?{len(self._known)}",))
        return self._known[key]

    def fresh(self) -> Size:
        """A new symbol, for a size about which nothing is known."""
        self._fresh += 1
        return Size(1, (f"u{self._fresh}",))
