"""What is kept for one key: a row's outputs, or a whole request's."""

from __future__ import annotations

import sys

import msgspec
import numpy as np

from sluice.cache.report import Owner
from sluice.inference.types import Arrays

OVERHEAD_BYTES = 448
"""What an entry costs beside its arrays: the structs, the key, its places in the tables, and a ghost. Measured."""

ARRAY_BYTES = sys.getsizeof(np.empty((1, 1)))
"""An array without its elements, about."""

ELEMENT_BYTES = sys.getsizeof(b"")
"""A BYTES element without its content."""


class CacheEntry(msgspec.Struct, eq=False, gc=False):
    """The answer to one key. `outputs` are read-only, share memory with nothing else, and are in the key's order.

    Of a row, each output has an axis 0 of size 1. `size_bytes` is all the memory that it takes. After `expires_s`
    on the monotonic clock it is not to be used. `visits` and `kept` belong to the tier that keeps it.
    """

    outputs: Arrays
    owner: Owner
    expires_s: float
    size_bytes: int
    visits: int = 0
    kept: bool = False


def entry_of(outputs: Arrays, owner: Owner, expires_s: float) -> CacheEntry:
    """An entry with these outputs, which nobody may write to from now on. Views of other arrays are copied."""
    own = tuple([array if array.base is None or isinstance(array.base, bytes) else array.copy() for array in outputs])
    size = OVERHEAD_BYTES
    for array in own:
        array.flags.writeable = False
        size += ARRAY_BYTES + array.nbytes
        if array.dtype.hasobject:
            size += sum([ELEMENT_BYTES + len(element) for element in array.flat])
    return CacheEntry(own, owner, expires_s, size)


def row_of(outputs: Arrays, row: int) -> Arrays:
    """Views of one row of each output, with an axis 0 of size 1."""
    return tuple([array[row : row + 1] for array in outputs])


def has_rows(outputs: Arrays, rows: int) -> bool:
    """Whether each output has so many rows along axis 0."""
    return all([array.shape[:1] == (rows,) for array in outputs])
