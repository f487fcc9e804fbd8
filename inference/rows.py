"""Whether a model keeps the rows of a batch apart: as many come out as go in, and none changes with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.backends.base import Backend
from inference.errors import ModelFailed
from inference.types import STORAGE, Array, Arrays, Datatype, Shape, TensorSpec

TOLERANCE = 1e-3
HALF_TOLERANCE = 3e-2
"""Differences that rounding explains, as a part of the value or of the output's largest one. An engine may compute two
rows by another order of sums than one row; a row that mixes with its neighbour changes far more."""

SMALLEST_SCALE = 1e-3
"""Outputs smaller than this are held to it: what is left of a difference of equal numbers is rounding alone."""

FLIPPED_PART = 100
"""One in so many elements that are no floats may differ: rounding decides between two classes that are as likely."""

DIFFERENT_ROWS = 8
"""As many rows of a random batch differ; making millions of random numbers takes longer than running them."""

_FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)
_HALVES = (Datatype.FP16, Datatype.BF16)


def rows_lost(outputs: Sequence[TensorSpec], arrays: Arrays, rows: int) -> str | None:
    """Plain words for the first output that does not have so many rows; `None` where all of them do."""
    for spec, array in zip(outputs, arrays, strict=True):
        if not array.ndim or array.shape[0] != rows:
            size = array.shape[0] if array.ndim else "no"
            return f"axis 0 of output {spec.name!r} does not follow the rows: {rows} in, {size} out"
    return None


def rows_mixed(backend: Backend, outputs: Sequence[TensorSpec]) -> str | None:
    """Runs two different rows, each alone and then both together; plain words where an answer is not the same.

    `None` for a model that refuses such rows, or that answers the same row differently each time: nothing is known of
    them. Floats are drawn from the normal distribution, integers are 0 or 1, BYTES are empty.
    """
    names = [spec.name for spec in outputs]
    pairs = _two_rows(backend.inputs)
    rows = [tuple([pair[place : place + 1] for pair in pairs]) for place in (0, 1)]
    try:
        alone = [backend.run(row, names) for row in rows]
    except ModelFailed:
        return None
    try:
        together = backend.run(pairs, names)
    except ModelFailed as error:
        return f"the model takes one row but not two: {error}"
    reason = rows_lost(outputs, alone[0], 1) or rows_lost(outputs, alone[1], 1) or rows_lost(outputs, together, 2)
    if reason is not None:
        return reason
    for place, row in enumerate(rows):
        beside = tuple([array[place : place + 1] for array in together])
        changed = _first_change(outputs, alone[place], beside)
        if changed is not None:
            if _first_change(outputs, alone[place], backend.run(row, names)) is not None:
                return None
            return f"row {place} of output {changed!r} changes with the rows beside it"
    return None


class RandomRows:
    """Batches of random inputs for a model. Beyond a few, rows are repeated: they are to be run, and not compared.

    Floats are drawn from the normal distribution, integers are 0 or 1, BYTES are empty. Axes of any size, other than
    axis 0, have size 1. An input whose axis 0 has a fixed size, or that has no axis, is as it is declared.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        rng = np.random.default_rng(0)
        self._specs = tuple(specs)
        self._pools = [_random(rng, spec.datatype, _shape(spec, DIFFERENT_ROWS)) for spec in specs]

    def batch(self, rows: int) -> Arrays:
        """So many rows of each input."""
        return tuple([np.resize(pool, _shape(spec, rows)) for pool, spec in zip(self._pools, self._specs, strict=True)])


def _two_rows(specs: Sequence[TensorSpec]) -> Arrays:
    rng = np.random.default_rng(0)
    return tuple([_random_pair(rng, spec) for spec in specs])


def _random_pair(rng: np.random.Generator, spec: TensorSpec) -> Array:
    pair = _random(rng, spec.datatype, _shape(spec, 2))
    if spec.datatype is not Datatype.BYTES and spec.datatype not in _FLOATS:
        pair[1] = 1 - pair[0]  # by chance, small rows would be equal
    return pair


def _shape(spec: TensorSpec, rows: int) -> Shape:
    return tuple([(rows if axis == 0 else 1) if size is None else size for axis, size in enumerate(spec.shape)])


def _random(rng: np.random.Generator, datatype: Datatype, shape: Shape) -> Array:
    storage = STORAGE[datatype]
    if datatype is Datatype.BYTES:
        return np.full(shape, b"", np.object_)
    if datatype is Datatype.BF16:
        return (np.asarray(rng.standard_normal(shape, np.float32)).view(np.uint32) >> 16).astype(storage)
    if datatype in _FLOATS:
        return np.asarray(rng.standard_normal(shape, np.float32)).astype(storage)
    return np.asarray(rng.integers(0, 2, shape)).astype(storage)


def _first_change(outputs: Sequence[TensorSpec], one: Arrays, other: Arrays) -> str | None:
    for spec, a, b in zip(outputs, one, other, strict=True):
        if a.shape != b.shape or not _same(spec.datatype, a, b):
            return spec.name
    return None


def _same(datatype: Datatype, a: Array, b: Array) -> bool:
    if datatype not in _FLOATS:
        return int(np.count_nonzero(a != b)) <= a.size // FLIPPED_PART
    tolerance = HALF_TOLERANCE if datatype in _HALVES else TOLERANCE
    a, b = _numbers(datatype, a), _numbers(datatype, b)
    finite = np.concatenate([a[np.isfinite(a)], b[np.isfinite(b)]])
    scale = np.abs(finite).max(initial=SMALLEST_SCALE)
    return bool(np.isclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True).all())


def _numbers(datatype: Datatype, array: Array) -> Array:
    if datatype is Datatype.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)
