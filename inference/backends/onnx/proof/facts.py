"""What is known of a tensor: how it depends on the rows of the batch, its shape, and its content if small. Pure.

The rows along axis 0 of all inputs are the rows of the batch. What follows from them is one of five kinds:

    CONSTANT  the same whatever the rows are and however many
    ROWS      along one axis, each row has its own part, which depends on that row alone
    COUNT     depends on how many rows there are, and on nothing else of them
    MIXED     rows may change one another's part, or its place
    UNKNOWN   an operator on the way is not known, or could not be followed

The layout of an axis with rows: its size is `outer * N * inner`, and the element `(o * N + n) * inner + i` belongs to
row n. Without reshaping, `outer` and `inner` are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from sluice.inference.backends.onnx.proof.sizes import ONE, ROWS, Size

MOST_CONTENT = 256
"""Elements of a tensor whose content is followed, at most: shapes, axes, permutations."""

Element = Size | float | bool
"""A whole number is a `Size`, which may be negative; bool comes before it, and float only where it is a fraction."""


class Dependence(IntEnum):
    """In order of what prevails where tensors meet."""

    CONSTANT = 0
    ROWS = 1
    COUNT = 2
    UNKNOWN = 3
    MIXED = 4


class Padded(msgspec.Struct, frozen=True):
    """Of ROWS: the last axis is as long as the longest row of the batch, and `filler` stands behind shorter ones."""

    filler: bytes


class Place(msgspec.Struct, frozen=True):
    """Of ROWS: whole numbers from `n * stride` to `n * stride + below - 1` in the part of row n."""

    stride: Size
    below: Size


class Address(msgspec.Struct, frozen=True):
    """Of ROWS: along the last axis, the first element is n in the part of row n, and the others are its own."""


class Below(msgspec.Struct, frozen=True):
    """Of CONSTANT: whole numbers from 0 to `limit - 1`."""

    limit: Size


Mark = Padded | Place | Address | Below
"""What is known besides. ROWS that have one depend on the batch: only operators that take that into account may read
them."""


class Fact(msgspec.Struct, frozen=True):
    """What is known of one tensor. `shape` is `None` where not even the rank is known, which ROWS never are.

    `axis` and `outer` say where the rows are, of ROWS. `content` has the elements, in the order of the last axis first.
    `because` says in plain words why a tensor is MIXED or UNKNOWN. A MIXED tensor with a shape is one whose elements
    alone may be changed by other rows. `hidden` is true of UNKNOWN where rows may be mixed as no trial shows.
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
        """The number of axes, where it is known."""
        return None if self.shape is None else len(self.shape)

    @property
    def plain(self) -> bool:
        """Whether the elements may be read as they are."""
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
    """The same for all rows; MIXED where its shape is not."""
    if shape is not None and any([size.counts_rows for size in shape]):
        return mixed("has a size that is the number of rows, and no row for each of them")
    return Fact(Dependence.CONSTANT, None if shape is None else tuple(shape), content=_kept(content))


def rows(shape: Sequence[Size], axis: int, outer: Size = ONE) -> Fact:
    """A part for each row along an axis; MIXED where the shape says otherwise."""
    whole = tuple(shape)
    inner = whole[axis].over(outer.times(ROWS))
    if inner is None or inner.counts_rows or outer.counts_rows:
        return mixed(f"axis {axis}, of size {whole[axis]}, does not have each row once")
    if any([size.counts_rows for place, size in enumerate(whole) if place != axis]):
        return mixed(f"the shape of one row's part changes with the number of rows: [{', '.join(map(str, whole))}]")
    return Fact(Dependence.ROWS, whole, axis, outer)


def count(shape: Sequence[Size] | None, content: Sequence[Element] | None = None) -> Fact:
    """Depends on how many rows there are. With content that does not, it is a constant."""
    if content is not None and not any([isinstance(each, Size) and each.counts_rows for each in content]):
        return constant(shape, content)
    return Fact(Dependence.COUNT, None if shape is None else tuple(shape), content=_kept(content))


def mixed(because: str) -> Fact:
    """Rows may change one another."""
    return Fact(Dependence.MIXED, because=because)


def unknown(because: str) -> Fact:
    """Nobody knows."""
    return Fact(Dependence.UNKNOWN, because=because)


def computed(fact: Fact, content: Sequence[Element] | None = None) -> Fact:
    """Other elements in the same shape."""
    return msgspec.structs.replace(fact, content=_kept(content), mark=None)


def inner_of(fact: Fact) -> Size:
    """How many elements in a row one row has along its axis, of ROWS."""
    assert fact.shape is not None
    inner = fact.shape[fact.axis].over(fact.outer.times(ROWS))
    assert inner is not None
    return inner


def sizes_in(fact: Fact | None) -> tuple[Size, ...] | None:
    """The content as whole numbers; `None` where it is not known, or is none."""
    if fact is None or fact.content is None:
        return None
    found = [each for each in fact.content if isinstance(each, Size)]
    return tuple(found) if len(found) == len(fact.content) else None


def numbers_in(fact: Fact | None) -> tuple[int, ...] | None:
    """The content as whole numbers without symbols; `None` where they are not known."""
    sizes = sizes_in(fact)
    if sizes is None or any([size.symbols for size in sizes]):
        return None
    return tuple([size.factor for size in sizes])


def _kept(content: Sequence[Element] | None) -> tuple[Element, ...] | None:
    return None if content is None or len(content) > MOST_CONTENT else tuple(content)
