"""Tensors as raw bytes in the Open Inference Protocol: little-endian elements in row-major order.

The binary tensor data extension and `raw_input_contents` in gRPC have this form. An element of BYTES follows its
length, which is four bytes, little-endian; BOOL is one byte, which is 0 or 1; FP16 and BF16 are two bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from sluice.gateway.dialects.formats.body_bounds import check_strings
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.slices import STEP_ELEMENTS, Text, rows_at_a_time
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, Shape, Tensor

_LENGTH = struct.Struct("<I")


def tensor_from_raw(name: str, datatype: Datatype, shape: Shape, raw: bytes | memoryview) -> Tensor:
    """The tensor in `raw`; numbers are not copied. Raises `InvalidRequest` if the bytes are not exactly its elements.

    The caller has checked `shape` with `json_forms.element_count`.
    """
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        return Tensor(name, datatype, shaped(name, _strings(name, count, raw), shape))
    dtype = STORAGE[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InvalidRequest(
            f"input {shown(name)} has {len(raw)} raw bytes; {datatype} of shape {shown(list(shape))} takes "
            f"{count * dtype.itemsize}"
        )
    if datatype is Datatype.BOOL:
        _check_truths(name, raw)
    return Tensor(name, datatype, shaped(name, np.frombuffer(raw, dtype), shape))


def shaped(name: str, flat: Array, shape: Shape) -> Array:
    """The elements in their shape. Raises `InvalidRequest` for one beyond numpy's bounds, such as [0, 2^62]."""
    try:
        return flat.reshape(shape)
    except ValueError:
        raise InvalidRequest(f"input {shown(name)} has shape {shown(list(shape))}, which is too large") from None


def raw_in_steps(tensor: Tensor) -> Generator[None, None, bytes]:
    """As `raw_data`, in steps for strings; numbers are copied at once."""
    if tensor.datatype is not Datatype.BYTES or tensor.array.size <= STEP_ELEMENTS:
        return raw_data(tensor)
    flat, text = tensor.array.reshape(-1), Text()
    for part in rows_at_a_time(flat.size, 1):
        text.add(raw_data(Tensor(tensor.name, tensor.datatype, flat[part])))
        yield
    return text.joined()


def raw_data(tensor: Tensor) -> bytes:
    """The bytes of a tensor."""
    if tensor.datatype is not Datatype.BYTES:
        return tensor.array.tobytes()
    pieces: list[bytes] = []
    for element in tensor.array.ravel().tolist():
        pieces += [_LENGTH.pack(len(element)), element]
    return b"".join(pieces)


def _check_truths(name: str, raw: bytes | memoryview) -> None:
    wrong = np.flatnonzero(np.frombuffer(raw, np.uint8) > 1)
    if len(wrong):
        at = int(wrong[0])
        raise InvalidRequest(f"input {shown(name)}, element {at}: a raw BOOL is the byte 0 or 1, and not {raw[at]}")


def _strings(name: str, count: int, raw: bytes | memoryview) -> npt.NDArray[np.object_]:
    """`count` elements. The length is checked before an array is made: a shape may claim any number of elements."""
    size = len(raw)
    if count * _LENGTH.size > size:
        raise InvalidRequest(
            f"input {shown(name)} has {size} raw bytes; {count} BYTES elements take at least {_LENGTH.size} each"
        )
    check_strings(name, count)
    strings: Array = np.empty(count, np.object_)
    at = 0
    for index in range(count):
        begin = at + _LENGTH.size
        at = begin + _unpacked(raw, at) if begin <= size else size + 1
        if at > size:
            raise InvalidRequest(f"input {shown(name)}, element {index}: the raw bytes end before the element does")
        strings[index] = bytes(raw[begin:at])
    if at != size:
        raise InvalidRequest(f"input {shown(name)} has {size} raw bytes; its {count} elements end at byte {at}")
    return strings


def _unpacked(raw: bytes | memoryview, at: int) -> int:
    length: Any = _LENGTH.unpack_from(raw, at)[0]
    return int(length)
