from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.gateway.dialects.v2.binary import BINARY_LENGTH
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import (
    STORAGE,
    Array,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from tests.gateway.dialects.bodies import body_of, callee_of, signature_of

NUMBERS = [each for each in Datatype if each not in (Datatype.BYTES, Datatype.BF16)]
IMAGE = Signature((TensorSpec("x", Datatype.FP32, (None, 2, 2)),), (), batched=True)
TEXT = Signature((TensorSpec("x", Datatype.BYTES, (None, 1)),), (), batched=True)


def framed(head: dict[str, Any], *tensors: bytes) -> tuple[bytes, bytes]:
    """A body, and the length of its JSON."""
    text = json.dumps(head).encode()
    return b"".join([text, *tensors]), b"%d" % len(text)


def x(size: object, shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}} | more


def decode(body: bytes, length: bytes, signature: Signature | None = None) -> InferenceRequest:
    return V2().decode(body, ((BINARY_LENGTH, length),), callee_of(signature))


def fault(body: bytes, length: bytes, signature: Signature | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(body, length, signature)
    return str(caught.value)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_are_read_where_they_lie(datatype: Datatype) -> None:
    values: Array = np.arange(6).reshape(2, 3).astype(STORAGE[datatype])
    body, length = framed({"inputs": [x(values.nbytes, [2, 3], datatype)]}, values.tobytes())
    [tensor] = decode(body, length).inputs
    assert (tensor.datatype, tensor.array.dtype, tensor.array.tolist()) == (datatype, values.dtype, values.tolist())
    assert not tensor.array.flags.owndata
    assert not tensor.array.flags.writeable


def test_binary_and_json_inputs_stand_beside_each_other_and_come_in_order() -> None:
    one, two = np.array([1, 2], np.float32), np.array([7], np.int64)
    inputs = [
        x(8, [2]),
        {"name": "j", "shape": [1], "datatype": "FP32", "data": [0.5]},
        {"name": "y", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}},
    ]
    body, length = framed({"id": "i", "inputs": inputs}, one.tobytes(), two.tobytes())
    request = decode(body, length)
    assert [(each.name, each.array.tolist()) for each in request.inputs] == [("x", [1, 2]), ("j", [0.5]), ("y", [7])]
    assert request.id == "i"


def test_strings_have_their_length_before_them() -> None:
    raw = b"".join(struct.pack("<I", len(each)) + each for each in (b"", b"\xff\x00", "grüße".encode()))
    [tensor] = decode(*framed({"inputs": [x(len(raw), [3], "BYTES")]}, raw)).inputs
    assert tensor.array.tolist() == [b"", b"\xff\x00", "grüße".encode()]


IN_SHARED_MEMORY = {
    "name": "x",
    "shape": [1],
    "datatype": "FP32",
    "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4},
}
OUT_OF_IT = {"name": "y", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}}


@pytest.mark.parametrize(
    ("head", "raw", "said"),
    [
        ({"inputs": [x(4, [2])]}, b"1234", "has 4 raw bytes; FP32 of shape [2] takes 8"),
        ({"inputs": [x(8, [2])]}, b"1234", "'binary_data_size' is 8, but only 4 bytes of the body are left for it"),
        ({"inputs": [x(8, [2])]}, b"123456789", "1 bytes are left behind the inputs"),
        ({"inputs": [x(-1, [2])]}, b"", "'binary_data_size' is -1; expected a number of bytes"),
        ({"inputs": [x(True, [1])]}, b"1", "'binary_data_size' is True; expected a number of bytes"),
        ({"inputs": [x(8, [2], data=[1, 2])]}, b"12345678", "has data and the parameter 'binary_data_size'"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}, b"", "has neither data nor the parameter"),
        ({"inputs": [IN_SHARED_MEMORY]}, b"", "input 'x': shared memory is not served"),
        ({"inputs": [x(4, [1])], "outputs": [OUT_OF_IT]}, b"1234", "output 'y': shared memory is not served"),
        ({"inputs": [x(8, [1], "BYTES")]}, b"\xff\xff\xff\xff1234", "the raw bytes end before the element does"),
        ({"inputs": [x(2, [2], "BOOL")]}, b"\x01\x02", "a raw BOOL is the byte 0 or 1, and not 2"),
        ({"inputs": [x(8, [2**62, 2**62])]}, b"12345678", "input 'x'"),
        ({"inputs": "no"}, b"", "inputs"),
    ],
)
def test_what_does_not_add_up(head: dict[str, Any], raw: bytes, said: str) -> None:
    assert said in fault(*framed(head, raw))


@pytest.mark.parametrize("length", [b"", b"-1", b"1e1", b"9" * 19, b"\xff"])
def test_a_length_is_a_number(length: bytes) -> None:
    assert "expected a number of bytes" in fault(b"{}", length)


def test_a_length_is_within_the_body() -> None:
    assert fault(b"{}", b"3") == "Inference-Header-Content-Length is 3, but the body has 2 bytes"


def test_a_body_without_json_is_the_only_input() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    request = decode(rows.tobytes(), b"0", IMAGE)
    assert request.inputs[0].array.tolist() == rows.tolist()
    assert decode(b"any \x00 text", b"0", TEXT).inputs[0].array.tolist() == [[b"any \x00 text"]]
    answer = V2().encode(request, InferenceResponse("m", 1, (Tensor("y", Datatype.INT8, np.array([1], np.int8)),)))
    assert dict(answer.headers)[b"content-type"] == b"application/octet-stream"


def test_a_body_without_json_fits_the_input() -> None:
    assert "raw bytes" in fault(b"12345", b"0", IMAGE)
    two = msgspec.structs.replace(IMAGE, inputs=IMAGE.inputs * 2)
    assert "the model has 2" in fault(b"", b"0", two)
    assert "does not say how long it is" in fault(b"", b"0", signature_of())
    assert "takes 3 strings" in fault(b"", b"0", Signature((TensorSpec("x", Datatype.BYTES, (3,)),), (), batched=False))


def answered(parameters: dict[str, Any] | None, outputs: list[dict[str, Any]] | None, *tensors: Tensor) -> Any:
    """The answer's JSON, its headers and what follows the JSON."""
    rest = "" if parameters is None else f',"parameters":{json.dumps(parameters)}'
    rest += "" if outputs is None else f',"outputs":{json.dumps(outputs)}'
    batched = Signature((TensorSpec("x", Datatype.FP32, (None,)),), (), batched=True)
    callee = callee_of(batched, ModelConfig(labels={"y": ("cat", "dog")}))
    request = V2().decode(body_of("[1]", [1], rest=rest), (), callee)
    assert not request.parameters, "what only concerns the answer's form must not tell cached rows apart"
    answer = V2().encode(request, InferenceResponse("m", 1, tensors))
    headers = dict(answer.headers)
    length = int(headers.get(BINARY_LENGTH, len(answer.body)))
    return json.loads(answer.body[:length]), headers, answer.body[length:]


Y = Tensor("y", Datatype.FP32, np.array([[0.25, 2], [np.nan, -1]], np.float32))
Z = Tensor("z", Datatype.BYTES, np.array([b"ab"], np.object_))


def test_outputs_are_binary_where_that_is_asked_for() -> None:
    page, headers, raw = answered({"binary_data_output": True}, None, Y, Z)
    assert [each["parameters"] for each in page["outputs"]] == [{"binary_data_size": 16}, {"binary_data_size": 6}]
    assert not any("data" in each for each in page["outputs"])
    assert headers[b"content-type"] == b"application/octet-stream"
    assert raw == Y.array.tobytes() + b"\x02\x00\x00\x00ab"


def test_each_output_can_have_a_form_of_its_own() -> None:
    outputs: list[dict[str, Any]] = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}]
    page, _, raw = answered({"binary_data_output": True}, outputs, Y, Z)
    assert "data" in page["outputs"][0]
    assert raw == b"\x02\x00\x00\x00ab"
    outputs = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}]
    page, headers, raw = answered(None, outputs, Y, Z)
    assert raw == Y.array.tobytes()
    assert page["outputs"][1]["data"] == ["ab"]
    assert BINARY_LENGTH in headers


def test_classes_come_highest_first_with_their_names() -> None:
    for asked, told in ((1, [["2.000000:1:dog"], ["-1.000000:1:dog"]]), (9, None)):
        page, headers, _ = answered(None, [{"name": "y", "parameters": {"classification": asked}}], Y)
        [output] = page["outputs"]
        told = told or [["2.000000:1:dog", "0.250000:0:cat"], ["-1.000000:1:dog", "nan:0:cat"]]
        assert (output["datatype"], output["shape"]) == ("BYTES", [2, len(told[0])])
        assert output["data"] == [each for row in told for each in row]
        assert BINARY_LENGTH not in headers


def test_integers_are_classes_too_and_need_no_names() -> None:
    values = Tensor("n", Datatype.UINT8, np.array([[3, 255, 0, 255]], np.uint8))
    page, _, _ = answered(None, [{"name": "n", "parameters": {"classification": 3}}], values)
    assert page["outputs"][0]["data"] == ["255:1", "255:3", "3:0"]


@pytest.mark.parametrize(
    ("parameters", "outputs", "tensor"),
    [
        ({"binary_data_output": 1}, None, Y),
        (None, [{"name": "y", "parameters": {"binary_data": "yes"}}], Y),
        (None, [{"name": "y", "parameters": {"classification": 0}}], Y),
        (None, [{"name": "y", "parameters": {"classification": True}}], Y),
        (None, [{"name": "y", "parameters": {"classification": 1.5}}], Y),
        (None, [{"name": "z", "parameters": {"classification": 1}}], Z),
        (None, [{"name": "e", "parameters": {"classification": 1}}], Tensor("e", Datatype.FP32, np.zeros((0, 2)))),
    ],
)
def test_a_wish_that_cannot_be_granted(parameters: Any, outputs: Any, tensor: Tensor) -> None:
    with pytest.raises(InvalidRequest):
        answered(parameters, outputs, tensor)


@given(st.binary(max_size=300), st.one_of(st.binary(max_size=20), st.integers(0, 300).map(lambda n: b"%d" % n)))
def test_any_bytes_are_a_request_or_refused(body: bytes, length: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(decode(body, length), InferenceRequest)


@given(st.data())
def test_a_frame_with_one_thing_changed_is_a_request_or_refused(data: st.DataObject) -> None:
    raw = np.arange(4, dtype=np.float32).tobytes() + b"\x03\x00\x00\x00abc"
    second = {"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}}
    body, length = framed({"inputs": [x(16, [2, 2]), second]}, raw)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = decode(bytes(changed), length)
    except InvalidRequest:
        return
    assert sum(each.array.size for each in request.inputs) <= 5
