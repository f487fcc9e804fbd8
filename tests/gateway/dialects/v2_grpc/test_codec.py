from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sluice.gateway.dialects.formats.raw_tensors import tensor_from_raw
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.codec import GrpcInfer
from sluice.inference import errors
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Datatype, InferenceResponse, Signature, Tensor
from tests.gateway.dialects.bodies import callee_of, signature_of
from tests.gateway.dialects.grpc_bodies import decode, raw_request, typed_request


def test_raw_and_typed_inputs_are_the_same_request() -> None:
    values = np.array([[1.5, -2.0, 1e-30]], np.float32)
    raw = decode(raw_request(values.tobytes(), [1, 3]))
    typed = decode(typed_request(values.ravel().tolist(), "fp32_contents", [1, 3]))
    for request in (raw, typed):
        (tensor,) = request.inputs
        assert (tensor.name, tensor.datatype, str(tensor.array.dtype)) == ("x", Datatype.FP32, "float32")
        assert np.array_equal(tensor.array, values)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-(2**15), 2**15 - 1]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 2**16 - 1]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP64", "fp64_contents", [1e300, -0.1]),
        ("BYTES", "bytes_contents", [b"", b"\xff\x00"]),
    ],
)
def test_each_datatype_has_its_contents(datatype: str, field: str, values: list[Any]) -> None:
    (tensor,) = decode(typed_request(values, field, [2], datatype)).inputs
    assert tensor.datatype == datatype
    assert tensor.array.tolist() == values


def test_parameters_are_heeded_or_handed_on() -> None:
    request = raw_request(bytes(4), [1])
    request.id = "mine"
    request.outputs.add(name="y")
    request.parameters["timeout"].int64_param = 250_000
    request.parameters["priority"].uint64_param = 2
    request.parameters["flag"].bool_param = True
    request.parameters["word"].string_param = "w"
    request.parameters["half"].double_param = 0.5
    decoded = decode(request)
    assert (decoded.id, decoded.outputs, decoded.timeout_s, decoded.priority) == ("mine", ("y",), 0.25, 2)
    assert dict(decoded.parameters) == {"flag": True, "word": "w", "half": 0.5}


def _changed(**fields: Any) -> pb.ModelInferRequest:
    request = raw_request(bytes(4), [1])
    request.MergeFrom(pb.ModelInferRequest(**fields))
    return request


def _with_parameter(where: str, name: str) -> pb.ModelInferRequest:
    request = raw_request(bytes(4), [1])
    holder = request.inputs[0] if where == "input" else request.outputs.add(name="y")
    holder.parameters[name].int64_param = 3
    return request


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (_changed(raw_input_contents=[b""]), "1 inputs, but 2 raw_input_contents"),
        (_changed(inputs=[{"name": "x"}], raw_input_contents=[b""]), "input 'x' is listed 2 times"),
        (_changed(outputs=[{"name": "y"}, {"name": "y"}]), "output 'y' is listed 2 times"),
        (raw_request(bytes(4), [1], "FP8"), "'FP8'; expected one of"),
        (raw_request(bytes(4), [-1]), "every axis must be 0 or more"),
        (raw_request(b"", [1] * 65), "65 axes"),
        (typed_request([1.0], "fp32_contents", [2]), "1 elements in fp32_contents; its shape [2] takes 2"),
        (typed_request([1.0], "fp64_contents", [1]), "has fp64_contents; FP32 takes fp32_contents"),
        (typed_request([300], "uint_contents", [1], "UINT8"), "element 0: 300 is not UINT8; expected 0 to 255"),
        (typed_request([1.0], "fp32_contents", [1], "FP16"), "FP16 has no typed contents"),
        (typed_request([], "fp32_contents", [0, 2**62]), "which is too large"),
        (typed_request([], "fp32_contents", [2**62]), "0 elements in fp32_contents"),
        (_with_parameter("input", "shared_memory_region"), "input 'x': shared memory is not served"),
        (_with_parameter("output", "shared_memory_region"), "output 'y': shared memory is not served"),
        (_with_parameter("output", "binary_data"), "output 'y': 'binary_data' is 3; expected true or false"),
        (_changed(parameters={"odd": {}}), "parameter 'odd' has no value"),
    ],
)
def test_a_faulty_request_is_told_what_is_wrong(request_: pb.ModelInferRequest, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(request_)
    assert words in str(refused.value)


def test_contents_beside_raw_contents_are_refused() -> None:
    request = typed_request([1.0], "fp32_contents", [1])
    request.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidRequest, match="send one"):
        decode(request)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no ModelInferRequest"):
        GrpcInfer().decode(b"\x2a\x01\xff", (), callee_of())


def test_an_answer_is_raw() -> None:
    strings = np.empty(1, np.object_)
    strings[:] = [b"ab"]
    response = InferenceResponse(
        "m",
        3,
        (
            Tensor("y", Datatype.FP32, np.array([[1, 2]], np.float32)),
            Tensor("z", Datatype.BYTES, strings),
        ),
        id="mine",
        parameters={"truth": True, "count": 2, "half": 0.5, "word": "w"},
    )
    answer = GrpcInfer().encode(decode(raw_request(bytes(4), [1])), response)
    assert answer.status == 0
    message = pb.ModelInferResponse.FromString(answer.body)
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "mine")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.outputs] == [
        ("y", "FP32", [1, 2]),
        ("z", "BYTES", [1]),
    ]
    assert list(message.raw_output_contents) == [np.array([1, 2], "<f4").tobytes(), b"\x02\x00\x00\x00ab"]
    assert [message.parameters[name].WhichOneof("parameter_choice") for name in ("truth", "count", "half", "word")] == [
        "bool_param",
        "int64_param",
        "double_param",
        "string_param",
    ]


def test_who_wants_to_know_is_told_that_an_answer_is_the_last() -> None:
    request = raw_request(bytes(4), [1])
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    decoded = decode(request)
    assert not decoded.parameters
    body = GrpcInfer().encode(decoded, InferenceResponse("m", 1, ())).body
    assert pb.ModelInferResponse.FromString(body).parameters["triton_final_response"].bool_param


def test_classes_are_told_in_place_of_numbers() -> None:
    config = ModelConfig.model_validate({"labels": {"y": ["cat", "dog", "cow"]}})
    signature = Signature(signature_of().inputs, signature_of().outputs, batched=True)
    request = raw_request(bytes(4), [1])
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    decoded = GrpcInfer().decode(request.SerializeToString(), (), callee_of(signature, config))
    values = Tensor("y", Datatype.FP32, np.array([[0.25, 0.5, 0.125]], np.float32))
    message = pb.ModelInferResponse.FromString(GrpcInfer().encode(decoded, InferenceResponse("m", 1, (values,))).body)
    assert (message.outputs[0].datatype, list(message.outputs[0].shape)) == ("BYTES", [1, 2])
    texts = tensor_from_raw("y", Datatype.BYTES, (2,), message.raw_output_contents[0]).array.tolist()
    assert texts == [b"0.500000:1:dog", b"0.250000:0:cat"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest("why"), 3),
        (errors.ModelFailed("why", invalid_input=True), 3),
        (errors.DeadlineExceeded("why"), 4),
        (errors.ModelNotFound("why"), 5),
        (errors.RequestTooLarge("why"), 8),
        (errors.ModelFailed("why"), 13),
        (errors.QueueFull("why", 0.2), 14),
    ],
)
def test_each_error_has_its_status(error: errors.SluiceError, status: int) -> None:
    refusal = GrpcInfer().refuse(error)
    assert (refusal.status, refusal.body) == (status, b"why")
    if status == 14:
        assert refusal.headers == ((b"retry-after", b"1"), (b"grpc-retry-pushback-ms", b"200"))


def test_an_operators_error_is_told_as_nothing() -> None:
    refusal = GrpcInfer().refuse(errors.ModelLoadError("/secret"))
    assert (refusal.status, refusal.body) == (13, b"internal error")


def test_strings_and_large_messages_are_decoded_beside_the_loop() -> None:
    dialect, numbers, strings = GrpcInfer(), callee_of(), callee_of(signature_of(Datatype.BYTES))
    assert not dialect.heavy(bytes(2**16), numbers)
    assert dialect.heavy(bytes(2**16), strings)
    assert dialect.heavy(bytes(2**20), numbers)
