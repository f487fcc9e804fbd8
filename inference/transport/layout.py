"""The layout of arrays in a buffer: their places are planned first, then they are written, then read back.

Elements of a fixed size are stored as in numpy. BYTES elements are stored as in the binary form of the Open Inference
Protocol: the length of each in four bytes, little-endian, and then its bytes.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from sluice.inference.transport.arena import SharedMemory
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, Shape

ALIGNMENT_BYTES = 64
"""The size of a cache line, and the largest alignment that vector instructions need."""

_LENGTH_BYTES = 4


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """The place of one tensor. `offset_bytes` is counted from the start of its buffer, or of its slot's area."""

    offset_bytes: int
    size_bytes: int
    shape: Shape


TensorContent: TypeAlias = "Sequence[Array] | bytes"


class BufferPlan(msgspec.Struct, frozen=True):
    """Tensors with their places, not written yet. `contents` are arrays to stack, or BYTES that are already encoded."""

    placed: tuple[Placed, ...]
    contents: tuple[TensorContent, ...]
    size_bytes: int


def plan(tensors: Sequence[Sequence[Array]]) -> BufferPlan:
    """Places for tensors, each given as the arrays to be stacked along axis 0. A single array keeps its shape."""
    placed: list[Placed] = []
    contents: list[TensorContent] = []
    end = 0
    for arrays in tensors:
        shape = _stacked_shape(arrays)
        content: TensorContent
        if arrays[0].dtype.hasobject:
            content = _encode_bytes(arrays)
            size = len(content)
        else:
            content = arrays
            size = math.prod(shape) * arrays[0].dtype.itemsize
        offset = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        placed.append(Placed(offset, size, shape))
        contents.append(content)
        end = offset + size
    return BufferPlan(tuple(placed), tuple(contents), end)


def write(planned: BufferPlan, buffer: mmap.mmap, start: int) -> None:
    """Writes the tensors into the buffer, from `start` on. Each element is copied once."""
    for place, content in zip(planned.placed, planned.contents, strict=True):
        offset = start + place.offset_bytes
        if isinstance(content, bytes):
            buffer[offset : offset + place.size_bytes] = content
            continue
        view: Array = np.ndarray(place.shape, content[0].dtype, buffer, offset)
        if len(content) == 1:
            np.copyto(view, content[0], casting="equiv")
        else:
            np.concatenate(content, axis=0, out=view, casting="equiv")


def write_file(planned: BufferPlan, memory: SharedMemory) -> None:
    """As `write`, into new memory. Writing to it as a file costs half as much as writing to its mapping."""
    for place, content in zip(planned.placed, planned.contents, strict=True):
        if not isinstance(content, bytes) and (len(content) > 1 or not content[0].flags.c_contiguous):
            write(BufferPlan((place,), (content,), place.size_bytes), memory.buffer, 0)
            continue
        left = memoryview(content) if isinstance(content, bytes) else content[0].reshape(-1).view(np.uint8).data
        at = place.offset_bytes
        while left:
            size = os.pwrite(memory.descriptor, left, at)
            left, at = left[size:], at + size


def views(buffer: mmap.mmap, start: int, placed: Sequence[Placed], datatypes: Sequence[Datatype]) -> Arrays:
    """The tensors as views of the buffer. They must be released before the buffer is written again or closed.

    Only BYTES are copied, into arrays of their own.
    """
    arrays: list[Array] = []
    for place, datatype in zip(placed, datatypes, strict=True):
        offset = start + place.offset_bytes
        if datatype is Datatype.BYTES:
            arrays.append(_decode_bytes(buffer[offset : offset + place.size_bytes], place.shape))
        else:
            arrays.append(np.ndarray(place.shape, STORAGE[datatype], buffer, offset))
    return tuple(arrays)


def copies(buffer: mmap.mmap, start: int, placed: Sequence[Placed], datatypes: Sequence[Datatype]) -> Arrays:
    """The tensors, copied out of the buffer."""
    return tuple(
        [array if array.dtype.hasobject else array.copy() for array in views(buffer, start, placed, datatypes)]
    )


def _stacked_shape(arrays: Sequence[Array]) -> Shape:
    first: Shape = arrays[0].shape
    if len(arrays) == 1:
        return first
    return (sum([array.shape[0] for array in arrays]), *first[1:])


def _encode_bytes(arrays: Sequence[Array]) -> bytes:
    pieces: list[bytes] = []
    for array in arrays:
        for element in array.ravel().tolist():
            pieces.append(len(element).to_bytes(_LENGTH_BYTES, "little"))
            pieces.append(element)
    return b"".join(pieces)


def _decode_bytes(encoded: bytes, shape: Shape) -> Array:
    flat = np.empty(math.prod(shape), np.object_)
    at = 0
    for index in range(flat.size):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(encoded[at:begin], "little")
        flat[index] = encoded[begin:at]
    return flat.reshape(shape)
