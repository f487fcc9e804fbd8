"""What is known about a tensor: how it depends on the rows of the batch, its shape, and its content if small.

The rows along axis 0 of all inputs are the rows of the batch. A tensor that is computed from them is of one kind:

    CONSTANT  the same for any rows and any number of rows
    ROWS      along one axis, each row has its own part, which depends on that row alone
    COUNT     depends on the number of rows, and on nothing else of them
    MIXED     rows may change one another's part, or its place
    UNKNOWN   an operator is not known, or could not be followed

The layout of an axis with rows: its size is `outer * N * inner`, and the element `(o * N + n) * inner + i` belongs to
row n. Without reshaping, `outer` and `inner` are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, Size

MOST_CONTENT = 256
"""The most elements of a tensor whose content is followed: shapes, axes, permutations."""

Element = Size | float | bool
"""Whole numbers are a `Size`, which may be negative; other numbers are `float`, and truth values `bool`."""


class Dependence(IntEnum):
    """The kinds, in rising order of precedence when tensors are combined."""

    CONSTANT = 0
    ROWS = 1
    COUNT = 2
    UNKNOWN = 3
    MIXED = 4


class Padded(msgspec.Struct, frozen=True):
    """A mark of ROWS: the last axis is as long as the batch's longest row, and shorter rows end with `filler`."""

    filler: bytes


class Place(msgspec.Struct, frozen=True):
    """A mark of ROWS: the part of row n has whole numbers from `n * stride` to `n * stride + below - 1`."""

    stride: Size
    below: Size


class Address(msgspec.Struct, frozen=True):
    """A mark of ROWS: along the last axis, the first element in the part of row n is n; the others depend on row n."""


class Below(msgspec.Struct, frozen=True):
    """A mark of CONSTANT: the elements are whole numbers from 0 to `limit - 1`."""

    limit: Size


Mark = Padded | Place | Address | Below
"""Further knowledge about a tensor. ROWS with a mark depend on the batch, so only operators that know of marks may read
them."""


class Fact(msgspec.Struct, frozen=True):
    """What is known about one tensor. `shape` is `None` if not even the rank is known; ROWS always have a shape.

    For ROWS, `axis` and `outer` say where the rows are. `content` has the elements in C order. `because` says in plain
    words why a tensor is MIXED or UNKNOWN. If a MIXED tensor has a shape, other rows may change its elements, but not
    its shape. `hidden` can be true for UNKNOWN only: rows may be mixed in a way that no trial would show.
    """

    kind: Dependence
    shape: tuple[Size, ...] | None = None
    axis: int = 0
    outer: Size = ONE
    content: tuple[Element, ...] | None = None
    because: str = ""
    mark: Mark | None = None
    hidden: bool = False

    @property
    def rank(self) -> int | None:
        """The number of axes; `None` if it is not known."""
        return None if self.shape is None else len(self.shape)

    @property
    def plain(self) -> bool:
        """Whether any operator may read the elements: they are not ROWS with a mark."""
        return self.mark is None or self.kind is not Dependence.ROWS

    def __str__(self) -> str:
        shape = "?" if self.shape is None else f"[{', '.join(map(str, self.shape))}]"
        match self.kind:
            case Dependence.CONSTANT:
                return f"{shape}, the same for all"
            case Dependence.ROWS:
                return f"{shape}, rows along axis {self.axis}"
            case Dependence.COUNT:
                return f"{shape}, the number of rows"
            case Dependence.UNKNOWN:
                return f"not known: {self.because}"
        return f"mixed: {self.because}"


def constant(shape: Sequence[Size] | None = None, content: Sequence[Element] | None = None) -> Fact:
    """The fact of a tensor that is the same for all rows; MIXED if its shape is not."""
    if shape is not None and any([size.counts_rows for size in shape]):
        return mixed("has a size that is the number of rows, and no row for each of them")
    return Fact(Dependence.CONSTANT, None if shape is None else tuple(shape), content=_kept(content))


def rows(shape: Sequence[Size], axis: int, outer: Size = ONE) -> Fact:
    """The fact of a tensor with a part for each row along an axis; MIXED if the shape contradicts that."""
    whole = tuple(shape)
    inner = whole[axis].over(outer.times(ROWS))
    if inner is None or inner.counts_rows or outer.counts_rows:
        return mixed(f"axis {axis}, of size {whole[axis]}, does not have each row once")
    if any([size.counts_rows for place, size in enumerate(whole) if place != axis]):
        return mixed(f"the shape of one row's part changes with the number of rows: [{', '.join(map(str, whole))}]")
    return Fact(Dependence.ROWS, whole, axis, outer)


def count(shape: Sequence[Size] | None, content: Sequence[Element] | None = None) -> Fact:
    """The fact of a tensor that depends on the number of rows; CONSTANT if its content is known and does not."""
    if content is not None and not any([isinstance(each, Size) and each.counts_rows for each in content]):
        return constant(shape, content)
    return Fact(Dependence.COUNT, None if shape is None else tuple(shape), content=_kept(content))


def mixed(because: str) -> Fact:
    """The fact of a tensor in which rows may change one another."""
    return Fact(Dependence.MIXED, because=because)


def unknown(because: str) -> Fact:
    """The fact of a tensor about which nothing is known."""
    return Fact(Dependence.UNKNOWN, because=because)


def computed(fact: Fact, content: Sequence[Element] | None = None) -> Fact:
    """The fact of other elements in the same shape, which depend on the rows in the same way."""
    return msgspec.structs.replace(fact, content=_kept(content), mark=None)


def inner_of(fact: Fact) -> Size:
    """For ROWS, how many elements in sequence belong to one row along its axis."""
    assert fact.shape is not None
    inner = fact.shape[fact.axis].over(fact.outer.times(ROWS))
    assert inner is not None
    return inner


def sizes_in(fact: Fact | None) -> tuple[Size, ...] | None:
    """The content as whole numbers; `None` if it is not known, or if there are other elements."""
    if fact is None or fact.content is None:
        return None
    found = [each for each in fact.content if isinstance(each, Size)]
    return tuple(found) if len(found) == len(fact.content) else None


def numbers_in(fact: Fact | None) -> tuple[int, ...] | None:
    """The content as whole numbers without symbols; `None` if they are not known."""
    sizes = sizes_in(fact)
    if sizes is None or any([size.symbols for size in sizes]):
        return None
    return tuple([size.factor for size in sizes])


def _kept(content: Sequence[Element] | None) -> tuple[Element, ...] | None:
    return None if content is None or len(content) > MOST_CONTENT else tuple(content)
