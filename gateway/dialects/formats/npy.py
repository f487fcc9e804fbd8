"""Arrays as `.npy` files (NumPy's NEP 1): `application/x-npy`. Pickled objects are never read."""

from __future__ import annotations

import math
import re
import struct

import numpy as np

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.body_bounds import check_rows, check_strings
from sluice.gateway.dialects.formats.json_forms import FORMS, element_count, shown
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, Shape, Tensor, TensorSpec

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096
PART = 1 << 20

MOST_PADDING = 8
"""In a file all strings are as long as the longest. They may take this many times their real length, at most."""

_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>|=]?[biufSU][0-9]{1,9})',\s*'fortran_order':\s*(True|False),\s*"
    rb"'shape':\s*\(([0-9, ]{0,1024})\),?\s*\}\s*"
)
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
"""The kinds of arrays that an input takes, by the kind of its numbers."""


def tensor_from_npy(spec: TensorSpec, body: bytes | bytearray | memoryview, max_rows: int | None = None) -> Tensor:
    """The array of a file as an input. Numbers keep their value. Raises `InvalidRequest`.

    Integers may become floats, but not the other way round; text becomes BYTES. Raises `RequestTooLarge` for more than
    `max_rows` rows; `None` is no bound.
    """
    array = _array(memoryview(body).toreadonly())
    if array.ndim and array.ndim == len(spec.shape):
        check_rows(spec.name, len(array), max_rows)
    if spec.datatype is Datatype.BYTES:
        return Tensor(spec.name, spec.datatype, _strings(spec.name, array))
    form = FORMS[spec.datatype]
    wanted = "f" if form.element is float else form.dtype.kind
    if array.dtype.kind not in _KINDS[wanted]:
        raise InvalidRequest(f"input {shown(spec.name)} is an array of {array.dtype}; expected {spec.datatype}")
    if spec.datatype is Datatype.BF16:
        try:
            return Tensor(spec.name, spec.datatype, bfloat16.from_any_float64(array.astype(np.float64)))
        except OverflowError:
            raise InvalidRequest(
                f"input {shown(spec.name)} has an element beyond the range of {spec.datatype}"
            ) from None
    with np.errstate(over="ignore", invalid="ignore"):
        numbers: Array = np.ascontiguousarray(array, form.dtype).reshape(array.shape)
    if wanted == "f":
        lost = not np.can_cast(array.dtype, form.dtype) and _became_infinite(numbers, array)
    else:
        lost = bool(form.below and array.size) and not form.above < int(array.min()) <= int(array.max()) < form.below
    if lost:
        raise InvalidRequest(f"input {shown(spec.name)} has an element beyond the range of {spec.datatype}")
    return Tensor(spec.name, spec.datatype, numbers)


def _became_infinite(numbers: Array, array: Array) -> bool:
    """Whether a finite number was too large. It compares a part at a time, in little memory."""
    after, before = numbers.reshape(-1), array.reshape(-1)
    return any(
        [
            bool((np.isinf(after[at : at + PART]) & np.isfinite(before[at : at + PART])).any())
            for at in range(0, after.size, PART)
        ]
    )


def npy_of(tensor: Tensor) -> bytes:
    """An output as a file. BF16 is widened to float32, and strings are padded to the length of the longest."""
    array = tensor.array
    if tensor.datatype is Datatype.BF16:
        array = bfloat16.to_float32(array)
    if tensor.datatype is Datatype.BYTES:
        _check_padding(array)
        array = array.astype(np.bytes_)
    order = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {_shape_text(array.shape)}, }}"
    padding = -(len(order) + 11) % 64
    header = order.encode() + b" " * padding + b"\n"
    return b"%b\x01\x00%b%b%b" % (MAGIC, struct.pack("<H", len(header)), header, array.tobytes())


def _check_padding(array: Array) -> None:
    lengths = [len(each) for each in array.ravel().tolist()]
    if max(lengths, default=0) * len(lengths) > MOST_PADDING * sum(lengths) + PART:
        raise InvalidRequest(
            f"the strings are of {min(lengths)} to {max(lengths)} bytes, and in an .npy file all are as long "
            "as the longest; accept application/json"
        )


def _shape_text(shape: Shape) -> str:
    return str(tuple([int(size) for size in shape]))


def _array(body: memoryview) -> Array:
    """The array that the file's header describes, without a copy. The header may claim any shape: sizes are checked."""
    if body[: len(MAGIC)] != MAGIC or len(body) < 12:
        raise InvalidRequest("the body is no .npy file; expected what numpy.save writes")
    long = body[6] > 1
    length = int.from_bytes(body[8:12] if long else body[8:10], "little")
    begin = 12 if long else 10
    header = _HEADER.fullmatch(body[begin : begin + length]) if length <= MAX_HEADER_BYTES else None
    if header is None:
        raise InvalidRequest(
            "the header of the .npy file is not one of plain numbers or text; objects and structures are never read"
        )
    shape = tuple([int(size) for size in header[3].replace(b" ", b"").split(b",") if size])
    element_count("the array", shape)
    try:
        dtype = np.dtype(header[1].decode())
        if dtype.itemsize == 0 or (dtype.kind == "f" and dtype.itemsize > 8):
            raise TypeError
    except (TypeError, ValueError):
        raise InvalidRequest(f"the .npy file holds {shown(header[1].decode())}; expected numbers or text") from None
    data = body[begin + length :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise InvalidRequest(
            f"the .npy file has {len(data)} bytes of data; {dtype} of shape {list(shape)} takes "
            f"{math.prod(shape) * dtype.itemsize}"
        )
    try:
        return np.frombuffer(data, dtype).reshape(shape, order="F" if header[2] == b"True" else "C")
    except ValueError:
        raise InvalidRequest(f"the .npy file has shape {shown(list(shape))}, which is too large") from None


def _strings(name: str, array: Array) -> Array:
    if array.dtype.kind not in "SU":
        raise InvalidRequest(f"input {shown(name)} is an array of {array.dtype}; expected text")
    check_strings(name, array.size)
    strings = np.empty(array.size, np.object_)
    try:
        strings[:] = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
    except (UnicodeError, ValueError) as error:
        raise InvalidRequest(f"input {shown(name)} holds what is no text: {error}") from None
    return strings.reshape(array.shape)
