from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.inference.errors import InvalidRequest
from sluice.inference.signature import SignatureCheck, conform, fits, row_count, shape_key, shape_text
from sluice.inference.types import STORAGE, Arrays, Datatype, Shape, Signature, Tensor, TensorSpec

A = TensorSpec("a", Datatype.FP32, (None, 4))
B = TensorSpec("b", Datatype.INT64, (None,))
BATCHED = Signature((A, B), (A,), batched=True)
UNBATCHED = Signature((TensorSpec("a", Datatype.FP32, (2, None)),), (A,), batched=False)


def _tensor(name: str, datatype: Datatype, *shape: int) -> Tensor:
    return Tensor(name, datatype, np.zeros(shape, STORAGE[datatype]))


def test_arrays_come_in_the_order_of_the_signature() -> None:
    b, a = _tensor("b", Datatype.INT64, 3), _tensor("a", Datatype.FP32, 3, 4)
    first, second = conform(BATCHED, [b, a])
    assert first is a.array
    assert second is b.array


def test_no_rows_are_rows_too() -> None:
    arrays = conform(BATCHED, [_tensor("a", Datatype.FP32, 0, 4), _tensor("b", Datatype.INT64, 0)])
    assert row_count(BATCHED, arrays) == 0


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], r"missing 'a', missing 'b'; expected 'a' \(FP32 \[\*, 4\]\), 'b' \(INT64 \[\*\]\)"),
        ([_tensor("a", Datatype.FP32, 1, 4)], "missing 'b'"),
        ([_tensor("a", Datatype.FP32, 1, 4), _tensor("c", Datatype.INT64, 1)], "missing 'b', unknown 'c'"),
        ([_tensor("a", Datatype.FP32, 1, 4)] * 2, "missing 'b', repeated 'a'"),
        (
            [_tensor("a", Datatype.FP32, 1, 4), _tensor("b", Datatype.INT64, 1), _tensor("b", Datatype.INT64, 1)],
            "repeated 'b'",
        ),
        ([_tensor("a", Datatype.FP64, 1, 4), _tensor("b", Datatype.INT64, 1)], "'a' has datatype FP64; expected FP32"),
        ([_tensor("a", Datatype.FP32, 1, 5), _tensor("b", Datatype.INT64, 1)], r"\[1, 5\]; expected \[\*, 4\]"),
        ([_tensor("a", Datatype.FP32, 4), _tensor("b", Datatype.INT64, 1)], r"\[4\]; expected \[\*, 4\]"),
        ([_tensor("a", Datatype.FP32, 2, 4), _tensor("b", Datatype.INT64, 3)], "different numbers of rows .*2.*3"),
    ],
)
def test_what_the_model_does_not_take_is_refused(tensors: list[Tensor], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        conform(BATCHED, tensors)


def test_rows_are_counted_along_axis_0() -> None:
    arrays = conform(BATCHED, [_tensor("a", Datatype.FP32, 3, 4), _tensor("b", Datatype.INT64, 3)])
    assert row_count(BATCHED, arrays) == 3


def test_a_request_to_a_model_that_is_not_batched_is_one_row() -> None:
    assert row_count(UNBATCHED, conform(UNBATCHED, [_tensor("a", Datatype.FP32, 2, 7)])) == 1


def test_the_shape_key_leaves_the_rows_out() -> None:
    keys = {
        shape_key(BATCHED, conform(BATCHED, [_tensor("a", Datatype.FP32, rows, 4), _tensor("b", Datatype.INT64, rows)]))
        for rows in (1, 2, 3)
    }
    assert keys == {((4,), ())}


def test_the_shape_key_of_a_model_that_is_not_batched_is_whole() -> None:
    assert shape_key(UNBATCHED, (np.zeros((2, 7), np.float32),)) == ((2, 7),)


@pytest.mark.parametrize(
    ("shape", "expected", "whether"),
    [((), (), True), ((1,), (), False), ((0, 4), (None, 4), True), ((1, 3), (None, 4), False), ((2,), (2,), True)],
)
def test_fits(shape: tuple[int, ...], expected: tuple[int | None, ...], whether: bool) -> None:
    assert fits(shape, expected) is whether


def test_shape_text() -> None:
    assert shape_text((None, 4)) == "[*, 4]"
    assert shape_text(()) == "[]"


SIGNATURES = [
    BATCHED,
    UNBATCHED,
    Signature((A,), (A,), batched=True),
    Signature((B,), (A,), batched=True),
    Signature((TensorSpec("a", Datatype.FP32, (None, None)),), (A,), batched=True),
]
tensors = st.builds(
    lambda name, datatype, shape: _tensor(name, datatype, *shape),
    st.sampled_from(["a", "b"]),
    st.sampled_from([Datatype.FP32, Datatype.INT64]),
    st.lists(st.integers(0, 4), max_size=3),
)


def _conformed(signature: Signature, given: list[Tensor]) -> tuple[Arrays, int, tuple[Shape, ...]]:
    arrays = conform(signature, given)
    return arrays, row_count(signature, arrays), shape_key(signature, arrays)


def _told(take: Callable[[], tuple[Arrays, int, tuple[Shape, ...]]]) -> object:
    """The result: the arrays, the rows and the key, or the words of the refusal."""
    try:
        arrays, rows, key = take()
    except InvalidRequest as refusal:
        return str(refusal)
    return [id(array) for array in arrays], rows, key


@given(st.sampled_from(SIGNATURES), st.lists(tensors, max_size=3))
def test_taking_in_is_conforming_counting_and_keying(signature: Signature, given: list[Tensor]) -> None:
    assert _told(lambda: SignatureCheck(signature).take(given)) == _told(lambda: _conformed(signature, given))


def test_names_that_a_caller_made_up_by_the_thousand_are_told_in_short() -> None:
    """The time is in proportion to the number of tensors."""
    given = [
        Tensor(f"{number % 50_000}-{'n' * 1000}", Datatype.FP32, np.zeros(1, np.float32)) for number in range(10**5)
    ]
    signature = Signature((TensorSpec("x", Datatype.FP32, (None,)),), (), batched=True)
    with pytest.raises(InvalidRequest) as caught:
        conform(signature, given)
    text = str(caught.value)
    assert text.startswith("wrong inputs: missing 'x', unknown '0-nnn")
    assert "repeated '0-nnn" in text
    assert len(text) < 4000
