"""Random inputs for a model: rows to be compared, and batches to be timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.types import STORAGE, Array, Arrays, Datatype, Shape, TensorSpec

FLOATS = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)

DIFFERENT_ROWS = 8
"""As many rows of a random batch differ; making millions of random numbers takes longer than running them."""


class RandomRows:
    """Batches of random inputs for a model. Beyond a few, rows are repeated: they are to be run, and not compared.

    Floats are drawn from the normal distribution, integers are 0 or 1, BYTES are empty. Axes of any size, other than
    axis 0, have size 1. An input whose axis 0 has a fixed size, or that has no axis, is as it is declared.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        rng = np.random.default_rng(0)
        self._specs = tuple(specs)
        self._pools = [_random(rng, spec.datatype, _shape(spec, DIFFERENT_ROWS, 1)) for spec in specs]

    def batch(self, rows: int) -> Arrays:
        """So many rows of each input."""
        pools = zip(self._pools, self._specs, strict=True)
        return tuple([np.resize(pool, _shape(spec, rows, 1)) for pool, spec in pools])


def three_rows(specs: Sequence[TensorSpec], open_size: int) -> tuple[Arrays, Arrays, Arrays]:
    """Three batches of one row each; the second differs from both others in every input.

    Floats are drawn from the normal distribution, integers are 0 or 1, BYTES are the texts "0" and "1". Axes of any
    size, other than axis 0, which is the batch axis of all inputs, have `open_size`.
    """
    rng = np.random.default_rng(0)
    drawn = [_different_rows(rng, spec.datatype, _shape(spec, 3, open_size)) for spec in specs]
    first, second, third = [tuple([rows[place : place + 1] for rows in drawn]) for place in range(3)]
    return first, second, third


def _different_rows(rng: np.random.Generator, datatype: Datatype, shape: Shape) -> Array:
    if datatype in FLOATS:
        return _random(rng, datatype, shape)
    bits = rng.integers(0, 2, shape)
    bits[1] = 1 - bits[0]  # by chance, small rows would be equal
    if np.array_equal(bits[2], bits[1]):
        bits[2] = bits[0]
    if datatype is Datatype.BYTES:
        return np.where(bits, b"1", b"0").astype(np.object_)
    return bits.astype(STORAGE[datatype])


def _shape(spec: TensorSpec, rows: int, open_size: int) -> Shape:
    return tuple([(rows if axis == 0 else open_size) if size is None else size for axis, size in enumerate(spec.shape)])


def _random(rng: np.random.Generator, datatype: Datatype, shape: Shape) -> Array:
    storage = STORAGE[datatype]
    if datatype is Datatype.BYTES:
        return np.full(shape, b"", np.object_)
    if datatype is Datatype.BF16:
        return (np.asarray(rng.standard_normal(shape, np.float32)).view(np.uint32) >> 16).astype(storage)
    if datatype in FLOATS:
        return np.asarray(rng.standard_normal(shape, np.float32)).astype(storage)
    return np.asarray(rng.integers(0, 2, shape)).astype(storage)
