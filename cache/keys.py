"""Keys: which rows are the same. Pure.

A key is a keyed BLAKE3 digest of 128 bits (O'Connor, Aumasson, Neves and Wilcox-O'Hearn, 2020;
docs/decisions/0009-keys-are-blake3.md). What the digest is keyed with stands for everything that rows of one kind have
in common, and the digested bytes are the row alone, so that no two rows that differ in anything share a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Literal, TypeAlias
from zlib import crc32

import msgspec
import numpy as np
from blake3 import blake3

from sluice.cache.turns import STEP_BYTES, STEP_ROWS
from sluice.inference.types import Array, Arrays, ParameterValue, Query, Shape, Signature

_LENGTH = Struct("<Q")

KEY_BYTES = 16
FORM = 1
"""Raised with every change of what is digested or of how answers are cut, so that older keys no longer match."""

REMEMBERED_KINDS, REMEMBERED_CHARACTERS = 256, 1024
"""So many kinds of rows are remembered, with parameters up to this length. Most models have one kind; axes of any size,
and parameters, which callers choose, make more."""

STEP_ELEMENTS = 2048
"""BYTES elements that are digested in one step."""

PEEKED_BYTES = 1024

CacheScope: TypeAlias = Literal["row", "request"]
Hasher: TypeAlias = blake3


class Keys:
    """Makes the keys of one model version. `identity` is whatever names its answers: its digest, engine and settings.

    With the scope `row`, a query has a key for each of its rows; with `request`, one for all of them, and how many they
    are is part of what they have in common.
    """

    def __init__(self, identity: str, signature: Signature, scope: CacheScope) -> None:
        self._identity = identity
        self._inputs = [(spec.name, spec.datatype) for spec in signature.inputs]
        self._by_row = scope == "row"
        self._hasher = lru_cache(maxsize=REMEMBERED_KINDS)(self._keyed)

    def hasher(self, query: Query) -> Hasher:
        """What all rows of the query begin with. Copied for each row, and never fed itself."""
        rows = None if self._by_row else query.rows
        if not query.parameters:
            return self._hasher(query.shape_key, rows, query.outputs, (), "")
        parameters = tuple(sorted(query.parameters.items()))
        if _characters(parameters) > REMEMBERED_CHARACTERS:
            return self._keyed(query.shape_key, rows, query.outputs, parameters, "")
        # To Python 1, 1.0 and True are equal, and so are 0.0 and -0.0.
        return self._hasher(query.shape_key, rows, query.outputs, parameters, repr(parameters))

    @property
    def remembered(self) -> int:
        """How many kinds of rows are remembered now."""
        return self._hasher.cache_info().currsize

    def forget(self) -> None:
        """Forget the kinds of rows that were seen so far."""
        self._hasher.cache_clear()

    def _keyed(
        self,
        shape_key: tuple[Shape, ...],
        rows: int | None,
        outputs: tuple[str, ...],
        parameters: tuple[tuple[str, ParameterValue], ...],
        _: str,
    ) -> Hasher:
        inputs = [(*each, shape) for each, shape in zip(self._inputs, shape_key, strict=True)]
        common = msgspec.msgpack.encode((FORM, self._identity, inputs, rows, outputs, parameters))
        return blake3(key=blake3(common).digest())


def only_key(hasher: Hasher, inputs: Arrays) -> bytes:
    """The key of all that these inputs hold: of a query with one row, or of a whole request."""
    own = hasher.copy()
    if len(inputs) == 1:
        own.update(_content(inputs[0]))
    else:
        for array in inputs:
            own.update(_content(array))
    return own.digest(KEY_BYTES)


def row_keys(hasher: Hasher, inputs: Arrays, start: int, stop: int) -> list[bytes]:
    """The keys of the rows from `start` up to `stop`."""
    readers = [_row_reader(array, start, stop) for array in inputs]
    keys = []
    for row in range(stop - start):
        own = hasher.copy()
        for read in readers:
            own.update(read(row))
        keys.append(own.digest(KEY_BYTES))
    return keys


def element_keys(hasher: Hasher, inputs: Arrays, rows: int | None) -> Iterator[list[bytes]]:
    """The keys of all rows where inputs have BYTES, which may be as many and as long as they like.

    Comes a step at a time: whatever was digested by then, which may be nothing but a part of a row. `rows` is `None`
    for one key of all.
    """
    if rows is None:
        yield from _long_key(hasher, inputs)
        return
    row_elements = sum([array.size for array in inputs if array.dtype.hasobject]) // rows
    step = max(1, min(STEP_ROWS // len(inputs), STEP_ELEMENTS // max(1, row_elements)))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        if content_bytes([array[start:stop] for array in inputs]) <= STEP_BYTES:
            yield row_keys(hasher, inputs, start, stop)
        else:
            for row in range(start, stop):
                yield from _long_key(hasher, [array[row : row + 1] for array in inputs])


def _long_key(hasher: Hasher, inputs: Sequence[Array]) -> Iterator[list[bytes]]:
    """The key of all that the inputs hold, as `only_key` makes it. Comes last, after any number of empty steps."""
    own = hasher.copy()
    for array in inputs:
        flat = array.reshape(-1)
        if not array.dtype.hasobject:
            content = flat.view(np.uint8).data
            for start in range(0, len(content), STEP_BYTES):
                own.update(content[start : start + STEP_BYTES])
                yield []
            continue
        for start in range(0, flat.size, STEP_ELEMENTS):
            elements = flat[start : start + STEP_ELEMENTS].tolist()
            if sum(map(len, elements)) <= STEP_BYTES:
                own.update(_elements(elements))
                yield []
                continue
            for element in elements:
                own.update(_LENGTH.pack(len(element)))
                for at in range(0, len(element), STEP_BYTES):
                    own.update(element[at : at + STEP_BYTES])
                    yield []
    yield [own.digest(KEY_BYTES)]


def content_bytes(inputs: Sequence[Array]) -> int:
    """About how much there is to digest, in bytes; a lower bound where BYTES elements are too many to look at each."""
    size = 0
    for array in inputs:
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(map(len, array.ravel().tolist())) if array.size <= STEP_ELEMENTS else STEP_BYTES + 1
    return size


def peek(inputs: Arrays) -> int:
    """A number that is equal for equal first rows, made from a part of their bytes."""
    seen = 0
    for array in inputs:
        first = (array[:1] if array.ndim else array).reshape(-1)
        if array.dtype.hasobject:
            content = b"".join([element[:PEEKED_BYTES] for element in first[: PEEKED_BYTES // 8]])
        else:
            content = first[:: 1 + first.nbytes // PEEKED_BYTES].tobytes()
        seen = crc32(content, seen)
    return seen


def _content(array: Array) -> bytes | memoryview:
    if array.dtype.hasobject:
        return _elements(array.ravel().tolist())
    # A copy of a few bytes costs less than a view of them.
    return array.tobytes() if array.nbytes < 4096 else array.reshape(-1).view(np.uint8).data


def _row_reader(array: Array, start: int, stop: int) -> Callable[[int], bytes | memoryview]:
    """Gives the bytes of one row, counted from `start`. They have one length for all, but for BYTES."""
    part = array[start:stop]
    if array.dtype.hasobject:
        flat = part.reshape(stop - start, -1).tolist() if part.size else [[]] * (stop - start)
        return lambda row: _elements(flat[row])
    if not part.size:
        return lambda _: b""
    size = part.nbytes // (stop - start)
    whole = part.reshape(-1).view(np.uint8).data
    return lambda row: whole[row * size : (row + 1) * size]


def _elements(elements: Sequence[bytes]) -> bytes:
    """BYTES elements with their lengths before them, so that none can be taken for a part of its neighbour."""
    pack = _LENGTH.pack
    return b"".join([pack(len(element)) + element for element in elements])


def _characters(parameters: Sequence[tuple[str, ParameterValue]]) -> int:
    return sum([len(name) + (len(value) if isinstance(value, str) else 8) for name, value in parameters])
