"""Values are found whole, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.cache.remote.values import decode, encode
from sluice.inference.types import STORAGE, Arrays, Datatype, TensorSpec

KEY, OTHER = b"k" * 16, b"o" * 16


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Arrays, list[Datatype], list[TensorSpec]]:
    arrays: list[np.ndarray[Any, Any]] = []
    datatypes, specs = [], []
    for _ in range(draw(st.integers(0, 3))):
        datatype = draw(st.sampled_from(list(Datatype)))
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        count = int(np.prod(shape))
        if datatype is Datatype.BYTES:
            array = np.empty(count, dtype=object)
            array[:] = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        else:
            width = count * STORAGE[datatype].itemsize
            array = np.frombuffer(draw(st.binary(min_size=width, max_size=width)), STORAGE[datatype])
        arrays.append(array.reshape(shape))
        datatypes.append(datatype)
        specs.append(TensorSpec("y", datatype, tuple(draw(st.sampled_from([size, None])) for size in shape)))
    return tuple(arrays), datatypes, specs


def bits(arrays: Arrays) -> list[object]:
    return [
        (array.shape, array.dtype.str, array.tolist() if array.dtype.hasobject else array.tobytes()) for array in arrays
    ]


@given(outputs())
def test_what_was_encoded_is_decoded_bit_for_bit(made: tuple[Arrays, list[Datatype], list[TensorSpec]]) -> None:
    arrays, datatypes, specs = made
    found = decode(encode(arrays, datatypes, KEY), KEY, specs)
    assert found is not None
    assert bits(found) == bits(arrays)
    assert not any(array.flags.writeable for array in found)


@given(outputs(), st.data())
def test_a_value_that_was_changed_anywhere_is_none(
    made: tuple[Arrays, list[Datatype], list[TensorSpec]], data: st.DataObject
) -> None:
    arrays, datatypes, specs = made
    value = encode(arrays, datatypes, KEY)
    place = data.draw(st.integers(0, len(value) - 1))
    flipped = bytes([value[place] ^ data.draw(st.integers(1, 255))])
    assert decode(value[:place] + flipped + value[place + 1 :], KEY, specs) is None
    assert decode(value[:place], KEY, specs) is None
    assert decode(value + b"\0", KEY, specs) is None
    assert decode(value, OTHER, specs) is None, "a value of another key"


@given(st.binary(max_size=200))
def test_what_is_no_value_is_none(junk: bytes) -> None:
    assert decode(junk, KEY, [TensorSpec("y", Datatype.FP32, (None,))]) is None


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("y", Datatype.FP64, (None, 3)),
        TensorSpec("y", Datatype.FP32, (None,)),
        TensorSpec("y", Datatype.FP32, (None, 4)),
        TensorSpec("y", Datatype.FP32, (None, 3, 1)),
    ],
)
def test_a_value_that_the_model_could_not_have_given_is_none(spec: TensorSpec) -> None:
    value = encode((np.zeros((1, 3), np.float32),), [Datatype.FP32], KEY)
    assert decode(value, KEY, [TensorSpec("y", Datatype.FP32, (None, 3))]) is not None
    assert decode(value, KEY, [TensorSpec("y", Datatype.FP32, ())]) is not None, "an output of undeclared rank"
    assert decode(value, KEY, [spec]) is None
    assert decode(value, KEY, [spec, spec]) is None
    assert decode(value, KEY, []) is None
