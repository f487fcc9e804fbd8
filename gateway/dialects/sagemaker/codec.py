"""SageMaker's and Vertex AI's contract for containers: `POST /invocations`.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html specifies the path, but no bodies.
Those are the ones that AWS's own containers take: JSON, CSV, `.npy`, images, and V2 as Triton's SageMaker front end has
it. Vertex AI's `instances` and `predictions` are those of TensorFlow Serving.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from sluice.gateway.dialects.base import Call, Callee, Dialect
from sluice.gateway.dialects.formats.csv_rows import csv_in_steps
from sluice.gateway.dialects.formats.npy import npy_of
from sluice.gateway.dialects.refusals import error_object
from sluice.gateway.dialects.sagemaker.openapi import invocation_paths
from sluice.gateway.dialects.untyped.answer import answer_in_steps
from sluice.gateway.dialects.untyped.binary import json_bytes_of, request_from_binary
from sluice.gateway.dialects.untyped.body import BodyForm, UntypedAnswerForm
from sluice.gateway.dialects.untyped.request import is_heavy, request_from_body
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import InvalidRequest, SluiceError
from sluice.inference.types import InferenceRequest, InferenceResponse, Tensor

PATH = "/invocations"
ACCEPT, CONTENT_TYPE = b"accept", b"content-type"
BINARY = b"application/vnd.sagemaker-triton.binary+json"
_JSON_SIZE = re.compile(rb"json-header-size=([^;\s]*)", re.IGNORECASE)


class InvocationAnswerForm(msgspec.Struct, frozen=True, tag="sagemaker"):
    """The form of a request, and the content type that its answer has."""

    untyped: UntypedAnswerForm
    medium: Literal["json", "csv", "npy"]


MEDIA: dict[bytes, Literal["json", "csv", "npy"]] = {
    b"application/json": "json",
    b"text/csv": "csv",
    b"application/x-npy": "npy",
    b"*/*": "json",
}


class SageMaker(Dialect):
    """`POST /invocations`, for the gateway's default model.

    The answer is JSON, unless the first known type in `Accept` is CSV or `.npy`. V2 is always answered in V2.
    """

    name = "sagemaker"
    headers = frozenset({ACCEPT, CONTENT_TYPE})

    def recognise(self, path: str) -> Call | None:
        """A call without a model, for the only path."""
        return Call("") if path.removesuffix("/") == PATH else None

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether the body is an image, or another large file."""
        return is_heavy(body, callee)

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, and `RequestTooLarge` for an image beyond its bound."""
        content_type = accept = b""
        for name, value in headers:
            if name == CONTENT_TYPE:
                content_type = value
            elif name == ACCEPT:
                accept = value
        if content_type.lower().startswith(BINARY):
            return _binary(body, content_type, callee)
        request = request_from_body(body, content_type, callee)
        medium = _medium(accept)
        if medium == "json":
            return request
        assert isinstance(request.reply, UntypedAnswerForm)
        return replace(request, reply=InvocationAnswerForm(request.reply, medium))

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """The answer. Raises `InvalidRequest` if the outputs cannot be written in the wanted form."""
        if not isinstance(wanted := request.reply, InvocationAnswerForm):
            return _with_json_size((yield from answer_in_steps(request, response, {})))
        if wanted.untyped.form is BodyForm.V2:
            return _with_json_size((yield from answer_in_steps(replace(request, reply=wanted.untyped), response, {})))
        if wanted.medium == "csv":
            return HttpResponse(200, (yield from csv_in_steps(response.outputs)), ((CONTENT_TYPE, b"text/csv"),))
        return HttpResponse(200, npy_of(_only_output(response.outputs)), ((CONTENT_TYPE, b"application/x-npy"),))

    def refuse(self, error: SluiceError) -> HttpResponse:
        """`{"error": "…"}`, as V2 has it: SageMaker's contract has statuses only."""
        return error_object(error)

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the one route."""
        return invocation_paths()


def _binary(body: bytes | bytearray, content_type: bytes, callee: Callee) -> InferenceRequest:
    size = _JSON_SIZE.search(content_type)
    if size is None:
        raise InvalidRequest(f"the content type {BINARY.decode()} must say json-header-size=N, the bytes of the JSON")
    return request_from_binary(body, size[1], callee)


def _with_json_size(answer: HttpResponse) -> HttpResponse:
    """A binary answer has the JSON's length in its content type, since SageMaker does not pass V2's header on."""
    length = json_bytes_of(answer)
    if length is None:
        return answer
    return HttpResponse(answer.status, answer.body, ((CONTENT_TYPE, b"%b;json-header-size=%b" % (BINARY, length)),))


def _medium(accept: bytes) -> Literal["json", "csv", "npy"]:
    """The first known one of the accepted types; JSON if none is known."""
    for each in accept.lower().split(b","):
        medium = MEDIA.get(each.partition(b";")[0].strip())
        if medium is not None:
            return medium
    return "json"


def _only_output(outputs: Sequence[Tensor]) -> Tensor:
    if len(outputs) != 1:
        names = ", ".join(repr(each.name) for each in outputs)
        raise InvalidRequest(f"the model gives {names}, and an .npy file has one array; accept application/json")
    return outputs[0]
