from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, InferenceRequest, InferenceResponse, Tensor

REQUEST = InferenceRequest(())


def encoded(*tensors: Tensor, **more: Any) -> dict[str, Any]:
    response = V2().encode(REQUEST, InferenceResponse("m", 3, tensors, **more))
    assert response.status == 200
    assert dict(response.headers) == {b"content-type": b"application/json"}
    document: dict[str, Any] = json.loads(response.body)
    return document


def tensor(values: list[Any], datatype: Datatype = Datatype.FP32, name: str = "y") -> Tensor:
    array: Array = np.array(values, STORAGE[datatype])
    return Tensor(name, datatype, array)


def test_the_answer() -> None:
    assert encoded(tensor([[1.5, 2.0]])) == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]}],
    }


def test_id_and_parameters_stand_there_if_given() -> None:
    document = encoded(tensor([1.0]), id="", parameters={"a": 1, "b": True, "c": "x", "d": 1.5})
    assert document["id"] == ""
    assert document["parameters"] == {"a": 1, "b": True, "c": "x", "d": 1.5}


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        (Datatype.BOOL, [True, False], [True, False]),
        (Datatype.UINT64, [2**64 - 1], [2**64 - 1]),
        (Datatype.INT64, [-(2**63)], [-(2**63)]),
        (Datatype.INT8, [-128], [-128]),
        (Datatype.FP16, [1.5, 65504.0], [1.5, 65504.0]),
        (Datatype.BF16, [0x3FC0, 0x7F7F], [1.5, 3.3895314e38]),
        (Datatype.FP64, [0.1], [0.1]),
        (Datatype.BYTES, [b"a", "ä[".encode(), b""], ["a", "ä[", ""]),
    ],
)
def test_elements(datatype: Datatype, values: list[Any], expected: list[Any]) -> None:
    [output] = encoded(tensor(values, datatype))["outputs"]
    assert output == {"name": "y", "datatype": datatype.value, "shape": [len(values)], "data": expected}


def test_floats_are_written_as_short_as_they_can_be() -> None:
    body = V2().encode(REQUEST, InferenceResponse("m", 1, (tensor([0.1, 1e-45, 16777216.0]),))).body
    assert b'"data":[0.1,1e-45,16777216.0]' in body


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3), (1, 1, 1)])
@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.BF16, Datatype.BYTES])
def test_data_is_flat_whatever_the_shape(shape: tuple[int, ...], datatype: Datatype) -> None:
    array: Array = np.zeros(shape, STORAGE[datatype])
    if datatype is Datatype.BYTES:
        array.fill(b"")
    [output] = encoded(Tensor("y", datatype, array))["outputs"]
    assert output["shape"] == list(shape)
    assert output["data"] == [b"".decode() if datatype is Datatype.BYTES else 0.0] * array.size


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64])
def test_numbers_that_are_not_finite(datatype: Datatype) -> None:
    floats = np.array([[1.5, np.nan, np.inf], [-np.inf, -np.nan, 2.5]], np.float32)
    array: Array = (floats.view(np.uint32) >> 16).astype(np.uint16) if datatype is Datatype.BF16 else floats
    odd = Tensor("odd", datatype, array.astype(STORAGE[datatype]))
    response = V2().encode(REQUEST, InferenceResponse("m", 1, (tensor([0.1]), odd)))
    assert b'"data":[1.5,NaN,Infinity,-Infinity,NaN,2.5]' in response.body
    assert b'"data":[0.1]' in response.body
    data = json.loads(response.body)["outputs"][1]["data"]
    assert [str(value) for value in data] == ["1.5", "nan", "inf", "-inf", "nan", "2.5"]


def test_nothing_but_numbers_that_are_not_finite() -> None:
    assert math.isnan(encoded(tensor([math.nan]))["outputs"][0]["data"][0])
    array: Array = np.array(math.inf, np.float32)
    assert encoded(Tensor("y", Datatype.FP32, array))["outputs"][0]["data"] == [math.inf]


def test_null_in_a_name_or_string_changes_nothing() -> None:
    tensors = (
        tensor([1.5, 0.1], name="null"),
        tensor([b"null", b"[null]"], Datatype.BYTES, "b"),
        tensor([5], Datatype.INT8, "i"),
        tensor([], Datatype.FP32, "e"),
    )
    outputs = encoded(*tensors)["outputs"]
    assert [output["data"] for output in outputs] == [[1.5, 0.1], ["null", "[null]"], [5], []]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"output 'y' cannot be written as JSON: element 1, b'\\xff', is not UTF-8"
    ):
        V2().encode(REQUEST, InferenceResponse("m", 1, (tensor([b"a", b"\xff"], Datatype.BYTES),)))
