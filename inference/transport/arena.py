"""Memory that the gateway and one worker share: the arena with its slots, and buffers for what does not fit a slot."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import msgspec
import numpy as np

from sluice.inference.types import STORAGE, Array, Datatype, Signature, TensorSpec

SLOTS = 2
"""Batches in flight per worker: one runs while the next is being stacked."""

SMALLEST_AREA_BYTES = 1 << 20
GUESSED_AREA_BYTES = 16 << 20
LARGEST_AREA_BYTES = 64 << 20
"""Bounds of a slot's areas. The kernel provides a page when it is first written, so a large area costs nothing."""

_NEVER_RESIZED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedMemory:
    """A memory file that is mapped here, and whose descriptor can be sent to the other side.

    The creator owns the mapping and the descriptor until `close`; the receiver owns a mapping of its own. A descriptor
    that is on its way in a message keeps the memory alive, so the sender may close it as soon as it has sent it. The
    file is sealed against any change of its size, so the other side cannot take a mapped page away.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        try:
            self.buffer = mmap.mmap(descriptor, size_bytes)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def create(cls, size_bytes: int) -> Self:
        """New memory, all zeros. Raises `OSError` if there is no memory or no descriptor left."""
        descriptor = os.memfd_create("sluice", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size_bytes)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _NEVER_RESIZED)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, size_bytes)

    def close_descriptor(self) -> None:
        """Closes the descriptor and keeps the mapping."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Releases the memory now, or, if arrays still refer to it, with the last of them."""
        self.close_descriptor()
        with suppress(BufferError):
            self.buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LentMemory(mmap.mmap):
    """A memory file of another process, mapped for reading, whose descriptor may be sent on. Owns the descriptor.

    The mapping and the descriptor are released with the last array that refers to the memory.
    """

    descriptor: int

    def __new__(cls, descriptor: int, size_bytes: int) -> Self:
        """Maps the file. If that raises `OSError`, the descriptor is closed."""
        try:
            self = super().__new__(cls, descriptor, size_bytes, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return self

    def __del__(self) -> None:
        os.close(self.descriptor)


def lender(arrays: Sequence[Array]) -> tuple[LentMemory, tuple[int, ...]] | None:
    """The lent memory in which all of the arrays lie, and their offsets; `None` if they do not lie in a single one."""
    found: LentMemory | None = None
    for array in arrays:
        owner: object = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if not isinstance(owner, LentMemory) or found not in (None, owner) or not array.flags.c_contiguous:
            return None
        found = owner
    if found is None:
        return None
    begin = _address(np.frombuffer(found, np.uint8))
    return found, tuple([_address(array) - begin for array in arrays])


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class ArenaShape(msgspec.Struct, frozen=True, array_like=True):
    """How an arena is divided: `SLOTS` slots, each with an area for inputs and then one for outputs."""

    input_bytes: int
    output_bytes: int

    @property
    def size_bytes(self) -> int:
        """The size of the whole arena."""
        return SLOTS * (self.input_bytes + self.output_bytes)

    def input_start(self, slot: int) -> int:
        """Where a slot's input area begins."""
        return slot * (self.input_bytes + self.output_bytes)

    def output_start(self, slot: int) -> int:
        """Where a slot's output area begins."""
        return self.input_start(slot) + self.input_bytes


def arena_shape(signature: Signature, max_batch_rows: int) -> ArenaShape:
    """Slots into which the largest batch fits, if the signature tells its size and the bounds of an area allow it."""
    rows = max_batch_rows if signature.batched else 1
    return ArenaShape(_area_bytes(signature.inputs, rows), _area_bytes(signature.outputs, rows))


def _area_bytes(specs: Sequence[TensorSpec], rows: int) -> int:
    sizes = [_tensor_bytes(spec, rows) for spec in specs]
    known = sum([size for size in sizes if size is not None])
    wanted = known if None not in sizes else max(known, GUESSED_AREA_BYTES)
    return _whole_pages(min(max(wanted, SMALLEST_AREA_BYTES), LARGEST_AREA_BYTES))


def _tensor_bytes(spec: TensorSpec, rows: int) -> int | None:
    axes = [rows if size is None and axis == 0 else size for axis, size in enumerate(spec.shape)]
    if spec.datatype is Datatype.BYTES or None in axes:
        return None
    size = math.prod([axis for axis in axes if axis is not None]) * STORAGE[spec.datatype].itemsize
    return _whole_pages(size)  # more than the alignment between tensors needs


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
