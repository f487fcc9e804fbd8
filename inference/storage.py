"""Numbers to and from their storage: how the elements of a datatype lie in memory (see `types.STORAGE`)."""

from __future__ import annotations

import numpy as np

from sluice.inference.types import STORAGE, Array, Datatype

LARGEST_FP16 = 6e4
"""Larger numbers are stored as this one: beyond 65504, FP16 has infinities alone."""


def stored(array: Array, datatype: Datatype) -> Array:
    """The numbers in the datatype's storage. BF16 is rounded towards zero, and FP16 clipped to `LARGEST_FP16`."""
    storage = STORAGE[datatype]
    if datatype is Datatype.BF16:
        return (np.asarray(array, np.float32).view(np.uint32) >> 16).astype(storage)
    if datatype is Datatype.FP16:
        return np.clip(array, -LARGEST_FP16, LARGEST_FP16).astype(storage)
    return np.asarray(array).astype(storage)


def computable(array: Array, datatype: Datatype) -> Array:
    """Stored numbers as numpy can compute with them: BF16 as float32, without loss; all others unchanged."""
    return (array.astype(np.uint32) << 16).view(np.float32) if datatype is Datatype.BF16 else array
