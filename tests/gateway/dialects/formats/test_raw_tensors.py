from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.dialects.formats.raw_tensors import raw_data, tensor_from_raw
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Datatype, Tensor


@given(st.lists(st.binary(max_size=9)))
def test_strings_come_back_as_they_went(elements: list[bytes]) -> None:
    strings = np.empty(len(elements), np.object_)
    strings[:] = elements
    raw = raw_data(Tensor("x", Datatype.BYTES, strings))
    assert tensor_from_raw("x", Datatype.BYTES, (len(elements),), raw).array.tolist() == elements


@pytest.mark.parametrize("datatype", [each for each in Datatype if each is not Datatype.BYTES])
def test_numbers_come_back_as_they_went_and_without_a_copy(datatype: Datatype) -> None:
    array = np.arange(6).astype(STORAGE[datatype]).reshape(2, 3)
    raw = raw_data(Tensor("x", datatype, array))
    tensor = tensor_from_raw("x", datatype, (2, 3), raw)
    assert np.array_equal(tensor.array, array)
    assert tensor.array.dtype == array.dtype
    assert np.shares_memory(tensor.array, np.frombuffer(raw, np.uint8))


def test_strings_lie_as_the_extension_says() -> None:
    raw = b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    assert tensor_from_raw("x", Datatype.BYTES, (2, 1), raw).array.tolist() == [[b"ab"], [b""]]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        (Datatype.FP32, (2,), bytes(7), "'x' has 7 raw bytes; FP32 of shape [2] takes 8"),
        (Datatype.BF16, (2,), bytes(8), "takes 4"),
        (Datatype.BOOL, (3,), b"\x00\x01\x02", "element 2: a raw BOOL is the byte 0 or 1, and not 2"),
        (Datatype.BYTES, (2**62,), bytes(4), "take at least 4 each"),
        (Datatype.BYTES, (1,), b"\x02\x00\x00\x00a", "element 0: the raw bytes end before the element does"),
        (Datatype.BYTES, (2,), b"\x04\x00\x00\x00abcd", "element 1: the raw bytes end before the element does"),
        (Datatype.BYTES, (2,), b"\x02\x00\x00\x00ab\x01\x00", "element 1: the raw bytes end before the element does"),
        (Datatype.FP32, (0, 2**62), b"", "shape [0, 4611686018427387904], which is too large"),
        (Datatype.BYTES, (1,), bytes(5), "its 1 elements end at byte 4"),
    ],
)
def test_bytes_that_are_not_just_the_elements_are_refused(
    datatype: Datatype, shape: tuple[int, ...], raw: bytes, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tensor_from_raw("x", datatype, shape, raw)
    assert words in str(refused.value)


@given(st.binary(max_size=64), st.integers(0, 20))
def test_any_bytes_are_strings_or_refused(raw: bytes, count: int) -> None:
    try:
        tensor = tensor_from_raw("x", Datatype.BYTES, (count,), raw)
    except InvalidRequest:
        return
    assert raw_data(tensor) == raw
