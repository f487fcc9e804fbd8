from __future__ import annotations

import numpy as np
import pytest

from sluice.gateway.dialects.formats.body_bounds import MAX_TEXTS
from sluice.gateway.dialects.request_bounds import (
    MAX_PARAMETER_CHARACTERS,
    MAX_PARAMETERS,
    RequestBounds,
    request_bounds,
)
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.types import Datatype, Parameters, Signature, Tensor, TensorSpec

OUTPUTS = (
    TensorSpec("y", Datatype.FP32, (None, 10)),
    TensorSpec("z", Datatype.UINT8, (None,)),
    TensorSpec("any", Datatype.FP32, (None, None)),
    TensorSpec("text", Datatype.BYTES, (None, 1)),
)


def bounds(
    outputs: tuple[TensorSpec, ...] = OUTPUTS, *, batched: bool = True, max_rows: int = 100, max_queue_rows: int = 50
) -> RequestBounds:
    signature = Signature((TensorSpec("x", Datatype.FP32, (None, 0)),), outputs, batched=batched)
    return request_bounds(signature, max_rows=max_rows, max_queue_rows=max_queue_rows, max_answer_bytes=1000)


@pytest.mark.parametrize(("max_rows", "max_queue_rows", "bound"), [(100, 50, 50), (10, 50, 10), (7, 7, 7)])
def test_more_rows_than_the_server_allows_or_the_queue_takes(max_rows: int, max_queue_rows: int, bound: int) -> None:
    held = bounds(max_rows=max_rows, max_queue_rows=max_queue_rows)
    held.check_rows(bound)
    with pytest.raises(RequestTooLarge) as caught:
        held.check_rows(bound + 1)
    assert str(caught.value) == (
        f"the request has {bound + 1} rows; one request has at most {bound}, the lower one of server.max_rows and the "
        "model's batching.max_queue_rows"
    )


def test_an_answer_of_known_size_is_refused_with_what_would_fit() -> None:
    held = bounds()
    held.check_answer(25, ("y",))
    held.check_answer(24, ("z", "y"))
    with pytest.raises(RequestTooLarge) as caught:
        held.check_answer(26, ("y",))
    assert str(caught.value) == (
        "the answer would have 1040 bytes; it may have at most 1000 (server.max_answer_bytes): send at most 25 rows, "
        "or ask for fewer outputs"
    )
    with pytest.raises(RequestTooLarge, match="at most 24 rows"):
        held.check_answer(25, ("y", "z", "any"))


def test_what_a_model_that_is_not_batched_gives_is_known_where_all_axes_are() -> None:
    held = bounds((TensorSpec("y", Datatype.FP64, (126, 1)), TensorSpec("z", Datatype.FP32, (2,))), batched=False)
    held.check_answer(1, ("z",))
    assert held.sure_rows == 0
    with pytest.raises(RequestTooLarge, match=r"ask for fewer outputs$"):
        held.check_answer(1, ("y",))


def test_an_answer_of_unknown_size_is_held_against_the_bound_once_it_is_there() -> None:
    held = bounds()
    assert held.knows(("y", "z"))
    assert not held.knows(("y", "any"))
    assert not held.knows(("text",))
    held.check_answer(50, ("any", "text"))
    held.check_outputs(1000)
    with pytest.raises(RequestTooLarge, match=r"1001 bytes; it may have at most 1000 \(server.max_answer_bytes\)"):
        held.check_outputs(1001)


def test_up_to_how_many_rows_nothing_need_be_looked_at() -> None:
    assert bounds().sure_rows == 1000 // 41
    assert bounds(OUTPUTS[1:2]).sure_rows == 50
    assert bounds(OUTPUTS[2:]).sure_rows == 50


def test_parameters_are_few_and_of_a_size_that_can_be_written() -> None:
    held = bounds()
    held.check_parameters({str(number): number for number in range(MAX_PARAMETERS)})
    with pytest.raises(RequestTooLarge, match="1025 parameters"):
        held.check_parameters({str(number): number for number in range(MAX_PARAMETERS + 1)})
    held.check_parameters({"p": "x" * (MAX_PARAMETER_CHARACTERS - 1)})
    with pytest.raises(RequestTooLarge, match=f"{MAX_PARAMETER_CHARACTERS + 1} characters"):
        held.check_parameters({"p": "x" * MAX_PARAMETER_CHARACTERS})
    fitting: Parameters = {"low": -(1 << 63), "high": (1 << 64) - 1, "truth": True, "real": 1e300, "text": "9" * 100}
    held.check_parameters(fitting)
    for number in (1 << 64, -(1 << 63) - 1):
        with pytest.raises(InvalidRequest, match="'p' is a whole number of more than 64 bits"):
            held.check_parameters({"p": number})


def test_what_a_part_counts_for() -> None:
    def part(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
        return tuple([Tensor("x", Datatype.FP32, np.zeros(shape, np.float32)) for shape in shapes])

    held = bounds()
    assert held.places(part((3, 2))) == 3
    assert held.places(part((10**12, 0))) == 10**12
    assert held.places(part((0, 2))) == 1
    assert held.places(part(())) == 1
    assert held.places(part((1, 5), (4, 5))) == 4
    assert held.places(()) == 1
    assert bounds(batched=False).places(part((3, 2))) == 1


def test_texts_are_counted_in_all_inputs_and_numbers_are_not() -> None:
    held = bounds()
    half = np.full((1, MAX_TEXTS // 2), b"", dtype=object)
    numbers = np.zeros((1, MAX_TEXTS), np.int8)
    held.check_texts((half, numbers, half))
    with pytest.raises(RequestTooLarge, match=f"the request has {MAX_TEXTS + 1} elements of BYTES; one request"):
        held.check_texts((half, half, np.full((1, 1), b"", dtype=object)))
