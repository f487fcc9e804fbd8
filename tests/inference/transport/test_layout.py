from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sluice.inference.transport.layout import ALIGNMENT_BYTES, copies, plan, views, write
from sluice.inference.types import STORAGE, Array, Datatype
from tests.inference.running import assert_same

FIXED_SIZE = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]


@pytest.fixture
def buffer() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, 1 << 16) as mapped:
        yield mapped


def _bytes(*elements: bytes) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


@given(st.data(), st.lists(st.sampled_from(FIXED_SIZE), min_size=1, max_size=4))
def test_what_is_written_is_read_back(data: st.DataObject, datatypes: list[Datatype]) -> None:
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    arrays = [data.draw(npst.arrays(STORAGE[datatype], shapes)) for datatype in datatypes]
    planned = plan([(array,) for array in arrays])
    with mmap.mmap(-1, 1 << 16) as buffer:
        write(planned, buffer, 128)
        for actual, expected in zip(copies(buffer, 128, planned.placed, datatypes), arrays, strict=True):
            assert_same(actual, expected)
    assert all(place.offset_bytes % ALIGNMENT_BYTES == 0 for place in planned.placed)
    ends = [place.offset_bytes + place.size_bytes for place in planned.placed]
    assert all(end <= place.offset_bytes for end, place in zip(ends, planned.placed[1:], strict=False))
    assert planned.size_bytes == ends[-1]


@given(st.lists(st.lists(st.binary(max_size=9), max_size=5), min_size=1, max_size=4))
def test_bytes_of_several_parts_are_read_back_as_one(parts: list[list[bytes]]) -> None:
    planned = plan([[_bytes(*part) for part in parts]])
    with mmap.mmap(-1, 1 << 16) as buffer:
        write(planned, buffer, 0)
        (actual,) = copies(buffer, 0, planned.placed, [Datatype.BYTES])
    assert_same(actual, _bytes(*[element for part in parts for element in part]))


def test_bytes_lie_as_the_protocol_has_them(buffer: mmap.mmap) -> None:
    planned = plan([(_bytes(b"ab", b""),)])
    write(planned, buffer, 0)
    assert buffer[: planned.size_bytes] == b"\x02\0\0\0ab\0\0\0\0"


def test_parts_are_stacked_along_axis_0(buffer: mmap.mmap) -> None:
    one, two = np.array([[1, 2]], np.int16), np.array([[3, 4], [5, 6]], np.int16)
    planned = plan([(one, two)])
    write(planned, buffer, 0)
    (actual,) = copies(buffer, 0, planned.placed, [Datatype.INT16])
    assert_same(actual, np.array([[1, 2], [3, 4], [5, 6]], np.int16))


def test_views_are_the_buffer_itself(buffer: mmap.mmap) -> None:
    planned = plan([(np.array([7], np.uint8),)])
    write(planned, buffer, 0)
    (view,) = views(buffer, 0, planned.placed, [Datatype.UINT8])
    buffer[0] = 9
    assert view.tolist() == [9]
    del view  # the buffer cannot be closed before


def test_another_dtype_is_refused(buffer: mmap.mmap) -> None:
    parts: list[Array] = [np.array([1], np.int32), np.array([1.5], np.float64)]
    with pytest.raises(TypeError, match="Cannot cast"):
        write(plan([parts]), buffer, 0)


def test_parts_that_cannot_be_stacked_are_refused(buffer: mmap.mmap) -> None:
    parts = [np.zeros((1, 2), np.int32), np.zeros((1, 3), np.int32)]
    with pytest.raises(ValueError, match="dimension"):
        write(plan([parts]), buffer, 0)
