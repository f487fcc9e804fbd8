"""Random inputs for a model that was not called yet: rows to compare, and batches to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from sluice.inference.storage import stored
from sluice.inference.types import FLOATS, Array, Arrays, Datatype, Shape, TensorSpec

DIFFERENT_ROWS = 8
"""The number of different rows in a batch to measure: making millions of random numbers takes longer than running."""


class Fill(StrEnum):
    """How inputs are filled until more is known about what the model takes."""

    PLAIN = "plain"
    """Floats of the normal distribution, integers 0 and 1, the texts "0" and "1"."""

    NO_INTEGERS = "no integers"
    """The same, but integers are 0, for models that look them up in a table with one entry."""

    ZEROS = "zeros"
    """Numbers are 0, texts are empty."""

    ONES = "ones"
    """Numbers are 1, texts are "1"."""


class Range(msgspec.Struct, frozen=True):
    """The integers that an input was found to take, both ends included."""

    least: int = 0
    most: int = 1


class AcceptedInputs(msgspec.Struct, frozen=True):
    """Inputs that a model takes.

    `shapes` has the shape of each input with one row; if axis 0 is of any size, there may be more rows. `ranges` has a
    range for each input; it has no meaning for floats and texts. `sample` has the inputs of a valid request, or `None`.
    """

    shapes: tuple[Shape, ...]
    ranges: tuple[Range, ...]
    fill: Fill = Fill.PLAIN
    sample: Arrays | None = None


class Sizes(msgspec.Struct, frozen=True):
    """Sizes for the axes of any size: `channels` for axis 1 of an input with four axes or more, else `rest`."""

    rest: int
    channels: int | None = None


def shapes_of(specs: Sequence[TensorSpec], sizes: Sizes) -> tuple[Shape, ...]:
    """The shape of each input with one row."""
    return tuple([_shape(spec, sizes) for spec in specs])


def untried(specs: Sequence[TensorSpec]) -> AcceptedInputs:
    """Inputs that most models take, with size 1 for the axes of any size."""
    return AcceptedInputs(shapes_of(specs, Sizes(1)), (Range(),) * len(specs))


class RandomRows:
    """Batches of random inputs that a model takes. Rows repeat after `DIFFERENT_ROWS`: they are not for comparisons.

    They have the shapes and the fill of `taken`, or are its sample, if it has one. An input without axes, or whose axis
    0 has a fixed size, has the declared shape.
    """

    def __init__(self, specs: Sequence[TensorSpec], taken: AcceptedInputs | None = None) -> None:
        rng = np.random.default_rng(0)
        taken = taken or untried(specs)
        self._open = [bool(spec.shape) and spec.shape[0] is None for spec in specs]
        self._whole = taken.sample is not None
        self._pools: Arrays = taken.sample or filled(rng, specs, taken, DIFFERENT_ROWS)

    def batch(self, rows: int) -> Arrays:
        """A batch of so many rows."""
        return tuple(
            [
                np.resize(pool, (rows, *pool.shape[1:])) if open_ else pool
                for pool, open_ in zip(self._pools, self._open, strict=True)
            ]
        )

    def request(self) -> Arrays:
        """One request, for a model whose rows are not stacked: the sample itself, or one row of each input."""
        return self._pools if self._whole else self.batch(1)


def filled(rng: np.random.Generator, specs: Sequence[TensorSpec], taken: AcceptedInputs, rows: int) -> Arrays:
    """So many different rows in the shapes and with the fill of `taken`."""
    shapes = _with_rows(specs, taken.shapes, rows)
    return tuple([_filled(rng, spec.datatype, shape, taken.fill) for spec, shape in zip(specs, shapes, strict=True)])


def constant(spec: TensorSpec, shape: Shape, value: int) -> Array:
    """An input that has one value everywhere."""
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, b"%d" % value if value else b"", np.object_)
    return stored(np.full(shape, value), spec.datatype)


class RowKind(msgspec.Struct, frozen=True):
    """One way to make random rows: floats of a shape, integers of a shape within a range, and a number of texts.

    `largest` is about the size of the largest floats.
    """

    name: str
    largest: float
    floats: Callable[[np.random.Generator, Shape], Array]
    integers: Callable[[np.random.Generator, Shape, Range], Array]
    texts: Callable[[np.random.Generator, int], list[bytes]]


def drawn(
    rng: np.random.Generator, kind: RowKind, specs: Sequence[TensorSpec], taken: AcceptedInputs, rows: int
) -> tuple[Arrays, ...]:
    """So many single rows of a kind, in the shapes and ranges that the model takes."""
    shapes = _with_rows(specs, taken.shapes, rows)
    inputs = [
        _drawn(rng, kind, spec.datatype, shape, range_)
        for spec, shape, range_ in zip(specs, shapes, taken.ranges, strict=True)
    ]
    return single_rows(tuple(inputs))


def single_rows(inputs: Arrays) -> tuple[Arrays, ...]:
    """The rows of a batch, each as a batch of one."""
    return tuple([tuple([array[row : row + 1] for array in inputs]) for row in range(inputs[0].shape[0])])


def _with_rows(specs: Sequence[TensorSpec], shapes: Sequence[Shape], rows: int) -> list[Shape]:
    return [
        (rows, *shape[1:]) if spec.shape and spec.shape[0] is None else shape
        for spec, shape in zip(specs, shapes, strict=True)
    ]


def _shape(spec: TensorSpec, sizes: Sizes) -> Shape:
    channels = sizes.channels if sizes.channels is not None and len(spec.shape) >= 4 else sizes.rest
    opened = {0: 1, 1: channels}
    return tuple([opened.get(axis, sizes.rest) if size is None else size for axis, size in enumerate(spec.shape)])


def _filled(rng: np.random.Generator, datatype: Datatype, shape: Shape, fill: Fill) -> Array:
    if fill in (Fill.ZEROS, Fill.ONES):
        value = 0 if fill is Fill.ZEROS else 1
        return constant(TensorSpec("", datatype, shape), shape, value)
    if datatype in FLOATS:
        return stored(np.asarray(rng.standard_normal(shape, np.float32)), datatype)
    bits = rng.integers(0, 2, shape)
    if bits.ndim and len(bits) > 1:
        bits[1] = 1 - bits[0]  # small rows would often be equal by chance
    if datatype is Datatype.BYTES:
        return np.where(bits, b"1", b"0").astype(np.object_)
    return stored(bits if fill is Fill.PLAIN else np.zeros(shape), datatype)


def _drawn(rng: np.random.Generator, kind: RowKind, datatype: Datatype, shape: Shape, range_: Range) -> Array:
    if datatype in FLOATS:
        return stored(kind.floats(rng, shape), datatype)
    if datatype is Datatype.BYTES:
        texts = np.empty(shape, np.object_)
        texts.ravel()[:] = kind.texts(rng, texts.size)
        return texts
    return stored(kind.integers(rng, shape, range_), datatype)
