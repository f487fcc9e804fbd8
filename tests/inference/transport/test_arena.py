from __future__ import annotations

import os

import numpy as np
import pytest

from sluice.inference.transport.arena import (
    GUESSED_AREA_BYTES,
    LARGEST_AREA_BYTES,
    SLOTS,
    SMALLEST_AREA_BYTES,
    LentMemory,
    SharedMemory,
    arena_shape,
    lender,
)
from sluice.inference.types import Array, Datatype, Signature, TensorSpec
from tests.inference.running import nothing_left, shared_mappings


def _signature(*shape: int | None, datatype: Datatype = Datatype.FP32) -> Signature:
    spec = (TensorSpec("t", datatype, shape),)
    return Signature(spec, spec, batched=bool(shape) and shape[0] is None)


def test_what_one_mapping_writes_another_reads() -> None:
    with nothing_left(), SharedMemory.create(4096) as ours, SharedMemory(os.dup(ours.descriptor), 4096) as theirs:
        ours.buffer[5:9] = b"four"
        assert theirs.buffer[4:10] == b"\0four\0"


def test_memory_outlives_its_creator_while_somebody_has_the_descriptor() -> None:
    with SharedMemory.create(4096) as ours:
        ours.buffer[0:2] = b"hi"
        descriptor = os.dup(ours.descriptor)
    with SharedMemory(descriptor, 4096) as theirs:
        assert theirs.buffer[0:2] == b"hi"


@pytest.mark.parametrize("size_bytes", [0, 4096, 16384])
def test_the_size_cannot_be_changed(size_bytes: int) -> None:
    with SharedMemory.create(8192) as memory, pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, size_bytes)


def test_nothing_is_left_where_memory_cannot_be_mapped() -> None:
    with nothing_left(), pytest.raises(OSError):  # noqa: PT011 -- which one is the kernel's choice
        SharedMemory.create(1 << 62)


def test_closing_waits_for_a_last_view() -> None:
    with nothing_left():
        memory = SharedMemory.create(4096)
        view = np.frombuffer(memory.buffer, np.uint8)
        memory.close()
        assert view.sum() == 0
        assert shared_mappings() > 0
        del view, memory


def test_a_slot_is_made_for_the_largest_batch() -> None:
    assert arena_shape(_signature(None, 65536), 64).input_bytes == 64 * 65536 * 4


def test_a_model_that_is_not_batched_has_one_row() -> None:
    assert arena_shape(_signature(2, 1 << 20), 64).output_bytes == 2 * (1 << 20) * 4


@pytest.mark.parametrize(
    ("signature", "size_bytes"),
    [
        (_signature(None, 4), SMALLEST_AREA_BYTES),
        (_signature(), SMALLEST_AREA_BYTES),
        (_signature(None, None), GUESSED_AREA_BYTES),
        (_signature(None, datatype=Datatype.BYTES), GUESSED_AREA_BYTES),
        (_signature(None, 1 << 30), LARGEST_AREA_BYTES),
    ],
)
def test_a_slot_is_within_bounds(signature: Signature, size_bytes: int) -> None:
    assert arena_shape(signature, 64).input_bytes == size_bytes


def test_areas_do_not_overlap() -> None:
    shape = arena_shape(_signature(None, 100_000), 3)
    starts = [start for slot in range(SLOTS) for start in (shape.input_start(slot), shape.output_start(slot))]
    assert starts == [index * shape.input_bytes for index in range(2 * SLOTS)]
    assert shape.size_bytes == 2 * SLOTS * shape.input_bytes
    assert all(start % 64 == 0 for start in starts)


def lent(array: Array) -> Array:
    """The same values in memory that another process might have written."""
    with SharedMemory.create(array.nbytes + 64) as own:
        np.ndarray(array.shape, array.dtype, own.buffer, 64)[...] = array
        memory = LentMemory(os.dup(own.descriptor), array.nbytes + 64)
    seen: Array = np.ndarray(array.shape, array.dtype, memory, 64)
    return seen


def test_arrays_in_lent_memory_say_where_they_lie() -> None:
    array = lent(np.arange(12, dtype=np.float32).reshape(4, 3))
    found = lender((array, array[1:3]))
    assert found is not None
    memory, offsets = found
    assert offsets == (64, 64 + 12)
    assert os.pread(memory.descriptor, 12, 64 + 12) == array[1].tobytes()
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_other_arrays_are_not_lent() -> None:
    array = lent(np.arange(12, dtype=np.float32).reshape(4, 3))
    for others in ((array.copy(),), (array, lent(array)), (array[:, :2],), (array.T,), (array, np.zeros(1)), ()):
        assert lender(others) is None


def test_lent_memory_goes_with_its_last_array() -> None:
    array = lent(np.zeros(4, np.float32))
    found = lender((array,))
    assert found is not None
    descriptor = found[0].descriptor
    view = array[1:]
    del array, found
    assert os.fstat(descriptor).st_size
    del view
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
