"""The Open Inference Protocol V2 over gRPC: serialized `ModelInferRequest`s in, `ModelInferResponse`s out.

The messages are in `inference.proto`. A body is a serialized message, and so is an answer. The server in
`gateway/grpc/` transports both and reads `HttpResponse.status` as a status of gRPC
(https://grpc.io/docs/guides/status-codes/).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from sluice.gateway.dialects.base import Call, Callee, Dialect
from sluice.gateway.dialects.formats.json_forms import MAX_AXES, element_count, form_of, shown
from sluice.gateway.dialects.formats.raw_tensors import raw_in_steps, tensor_from_raw
from sluice.gateway.dialects.refusals import entry_of, retry_after, text_of
from sluice.gateway.dialects.v2.outputs import RequestedOutput, answer_form_of
from sluice.gateway.dialects.v2.request_checks import check_shape, refuse_repeated
from sluice.gateway.dialects.v2.schedule import UNSAID, schedule_of
from sluice.gateway.dialects.v2.shared_memory import refuse_shared_memory
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from sluice.gateway.dialects.v2_grpc.address import address_of
from sluice.gateway.dialects.v2_grpc.answer_form import GrpcAnswerForm
from sluice.gateway.dialects.v2_grpc.contents import tensor_from_contents
from sluice.gateway.dialects.v2_grpc.messages import parsed
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NoSuchRegion,
    RequestTooLarge,
    SluiceError,
    Unavailable,
)
from sluice.inference.types import Datatype, InferenceRequest, InferenceResponse, ParameterValue, Tensor

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 7, 8, 13, 14

STATUSES: Mapping[type[SluiceError], int] = MappingProxyType(
    {
        InvalidRequest: INVALID_ARGUMENT,
        ModelNotFound: NOT_FOUND,
        NoSuchRegion: NOT_FOUND,
        Forbidden: PERMISSION_DENIED,
        RequestTooLarge: RESOURCE_EXHAUSTED,
        Unavailable: UNAVAILABLE,
        DeadlineExceeded: DEADLINE_EXCEEDED,
        SluiceError: INTERNAL,
    }
)
"""By the nearest ancestor of an error, as `refusals.entry_of` finds it."""

PUSHBACK = b"grpc-retry-pushback-ms"
"""The trailer that tells a client how long to wait before it retries, in milliseconds (gRFC A6)."""

WANTS_FINAL, IS_FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""A caller may ask for a mark on the last answer to its request. Here the only answer is the last."""

HEAVY_BYTES, HEAVY_STRINGS_BYTES = 1024 * 1024, 64 * 1024
"""Messages from this length on are heavy; the second for models that take strings."""

PLAIN = GrpcAnswerForm()


class GrpcInfer(Dialect):
    """`ModelInfer` and each message of `ModelStreamInfer`.

    The inputs of a request all have typed contents, or all are raw; outputs are always raw. Outputs may be asked for as
    classes, and the parameters `timeout` and `priority` say how the call is scheduled. Shared memory is refused.
    `HttpResponse.status` is one of gRPC's; if it is not `OK`, the body is the message of the status.
    """

    name = "grpc"
    headers = frozenset[bytes]()
    client_gone = CANCELLED

    def recognise(self, path: str) -> Call | None:
        """Always `None`: no HTTP path leads to gRPC."""
        return None

    def address(self, body: bytes | bytearray) -> Call:
        """The model that a message names, read without its tensors."""
        return address_of(body)

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether the message is long: strings are decoded one by one, and typed contents are copied twice."""
        if len(body) < HEAVY_STRINGS_BYTES:
            return False
        return len(body) >= HEAVY_BYTES or any([spec.datatype is Datatype.BYTES for spec in callee.signature.inputs])

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a message. Raises `InvalidRequest`, naming the input, and `RequestTooLarge`."""
        message = parsed(pb.ModelInferRequest, body)
        if len(message.inputs) > 1:
            refuse_repeated("input", [each.name for each in message.inputs])
        max_rows = callee.rows_bound
        for each in message.inputs:
            check_shape(each.name, each.shape, max_rows)
        raws = message.raw_input_contents
        if raws:
            _refuse_contents(message)
        if raws and len(raws) != len(message.inputs):
            for each in message.inputs:
                refuse_shared_memory(f"input {shown(each.name)}", each.parameters)
            raise InvalidRequest(f"{len(message.inputs)} inputs, but {len(raws)} raw_input_contents; expected as many")
        if raws:
            inputs = tuple([_raw_tensor(each, raw) for each, raw in zip(message.inputs, raws, strict=True)])
        else:
            inputs = tuple([_typed_tensor(each) for each in message.inputs])
        outputs = [_output(each) for each in message.outputs]
        names = tuple([output.name for output in outputs])
        if len(outputs) > 1:
            refuse_repeated("output", names)
        parameters = _parameters(message.parameters) if message.parameters else {}
        final = parameters.pop(WANTS_FINAL, False) is True
        rest, timeout_s, priority = schedule_of(parameters) if parameters else UNSAID
        classes = answer_form_of(outputs, {}) if outputs else None
        if classes is not None:
            classes = replace(classes, labels=callee.config.labels, batched=callee.signature.batched)
        reply = GrpcAnswerForm(final, classes) if final or classes is not None else None
        return InferenceRequest(inputs, names, message.id or None, rest, timeout_s, priority, reply=reply)

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """The answer with raw outputs. Raises `InvalidRequest` if classes are wanted of an output that has none."""
        reply = request.reply if isinstance(request.reply, GrpcAnswerForm) else PLAIN
        outputs = response.outputs
        if reply.classes is not None:
            shaped: list[Tensor] = []
            for tensor in outputs:
                shaped += [(yield from reply.classes.shaped_in_steps(tensor))]
            outputs = tuple(shaped)
        raw: list[bytes] = []
        for tensor in outputs:
            raw += [(yield from raw_in_steps(tensor))]
        message = pb.ModelInferResponse(
            model_name=response.model,
            model_version=str(response.version),
            id=response.id or "",
            outputs=[_output_head(tensor) for tensor in outputs],
            raw_output_contents=raw,
        )
        for name, value in response.parameters.items():
            _set(message.parameters[name], value)
        if reply.final:
            message.parameters[IS_FINAL].bool_param = True
        return HttpResponse(OK, message.SerializeToString())

    def refuse(self, error: SluiceError) -> HttpResponse:
        """The status of gRPC for this kind of error, and when to try again if that may help."""
        headers = retry_after(error)
        if isinstance(error, Unavailable):
            headers = (*headers, (PUSHBACK, b"%d" % max(1, math.ceil(error.retry_after_s * 1e3))))
        return HttpResponse(status_of(error), text_of(error).encode(), headers)

    def openapi_paths(self) -> dict[str, Any]:
        """Empty: gRPC describes itself by reflection."""
        return {}


def status_of(error: SluiceError) -> int:
    """The status of gRPC for an error."""
    return entry_of(error, STATUSES)


def _raw_tensor(each: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> Tensor:
    datatype, shape, _ = _head(each)
    return tensor_from_raw(each.name, datatype, shape, raw)


def _refuse_contents(message: pb.ModelInferRequest) -> None:
    for each in message.inputs:
        if each.HasField("contents"):
            raise InvalidRequest(
                f"contents field must not be specified when using raw_input_contents for {shown(each.name)} for model "
                f"{shown(message.model_name)}; send one of them"
            )


def _typed_tensor(each: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    datatype, shape, count = _head(each)
    return tensor_from_contents(each.name, datatype, shape, count, each.contents)


def _head(each: pb.ModelInferRequest.InferInputTensor) -> tuple[Datatype, tuple[int, ...], int]:
    """An input's datatype, shape and number of elements."""
    refuse_shared_memory(f"input {shown(each.name)}", each.parameters)
    shape = tuple(each.shape[: MAX_AXES + 1])
    return form_of(each.name, each.datatype).datatype, shape, element_count(each.name, shape)


def _output(each: pb.ModelInferRequest.InferRequestedOutputTensor) -> RequestedOutput:
    if not each.parameters:
        return RequestedOutput(each.name)
    refuse_shared_memory(f"output {shown(each.name)}", each.parameters)
    return RequestedOutput(each.name, _parameters(each.parameters))


def _parameters(messages: Mapping[str, pb.InferParameter]) -> dict[str, ParameterValue]:
    parameters: dict[str, ParameterValue] = {}
    for name, message in messages.items():
        choice = message.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"parameter {shown(name)} has no value")
        parameters[name] = getattr(message, choice)
    return parameters


def _set(message: pb.InferParameter, value: ParameterValue) -> None:
    # To Python, true is a number.
    if isinstance(value, bool):
        message.bool_param = value
    elif isinstance(value, int):
        message.int64_param = value
    elif isinstance(value, float):
        message.double_param = value
    else:
        message.string_param = value


def _output_head(tensor: Tensor) -> pb.ModelInferResponse.InferOutputTensor:
    return pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
