"""How answers are stored in Redis. Pure.

A value is one version byte, a checksum of 128 bits, and a body: the outputs in msgpack, each with its datatype, its
shape and its elements. The checksum is over the key and the body (BLAKE3), so that a value that was cut, changed, or
copied from another key is told from a good one. It finds accidents; it does not protect against an attacker who can
write to Redis (docs/cache.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from typing import Annotated

import msgspec
import numpy as np
from blake3 import blake3

from sluice.inference.types import STORAGE, Array, Arrays, Datatype, TensorSpec

VERSION = b"\x01"
CHECKSUM_BYTES = 16
_BODY = len(VERSION) + CHECKSUM_BYTES

_NATIVE = sys.byteorder == "little"
_LITTLE = {datatype: dtype.newbyteorder("<") for datatype, dtype in STORAGE.items()}

_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Output(msgspec.Struct, array_like=True):
    """`data` is the memory of an array, little-endian and in C order, or the elements of one of BYTES."""

    datatype: Datatype
    shape: tuple[_Size, ...]
    data: bytes | list[bytes]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Output])


def encode(outputs: Arrays, datatypes: Sequence[Datatype], key: bytes) -> bytes:
    """The value of a key. `datatypes` are those of the outputs, in their order."""
    body = _ENCODER.encode([_output(*each) for each in zip(outputs, datatypes, strict=True)])
    return VERSION + _checksum(key, body) + body


def decode(value: bytes, key: bytes, specs: Sequence[TensorSpec]) -> Arrays | None:
    """The outputs in a value, read-only; `None` for whatever is not a good value of this key with these outputs."""
    body = value[_BODY:]
    if value[:1] != VERSION or value[1:_BODY] != _checksum(key, body):
        return None
    try:
        outputs = _DECODER.decode(body)
        if len(outputs) != len(specs):
            return None
        return tuple([_array(output, spec) for output, spec in zip(outputs, specs, strict=True)])
    except ValueError:
        return None


def _checksum(key: bytes, body: bytes) -> bytes:
    # All keys have one length, so that none can be taken for the beginning of a body.
    return blake3(key + body).digest(CHECKSUM_BYTES)


def _output(array: Array, datatype: Datatype) -> _Output:
    data = array.ravel().tolist() if datatype is Datatype.BYTES else _little(array).tobytes()
    return _Output(datatype, array.shape, data)


def _array(output: _Output, spec: TensorSpec) -> Array:
    """Raises `ValueError` if it is not what the model says of this output."""
    if output.datatype is not spec.datatype or not _fits(output.shape, spec.shape):
        raise ValueError("another output")
    data, count = output.data, prod(output.shape)
    array: Array
    if output.datatype is Datatype.BYTES:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError("no list of so many elements")
        array = np.empty(count, dtype=object)
        array[:] = data
        array = array.reshape(output.shape)
        array.flags.writeable = False
        return array
    dtype = _LITTLE[output.datatype]
    if not isinstance(data, bytes) or len(data) != count * dtype.itemsize:
        raise ValueError("no memory of so many elements")
    array = np.ndarray(output.shape, dtype, data)
    return array if _NATIVE else array.astype(STORAGE[output.datatype])


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    # A model that does not declare an output's rank says nothing of its shape.
    if not expected:
        return True
    return len(shape) == len(expected) and all(
        [want in (None, size) for size, want in zip(shape, expected, strict=True)]
    )


def _little(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
