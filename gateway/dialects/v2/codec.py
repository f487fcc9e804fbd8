"""The Open Inference Protocol, version 2, over REST, with JSON and binary tensors.

The specification is `specification/protocol/inference_rest.md` of the Open Inference Protocol project. JSON has no
word for a number that is not finite. Where an output holds one, the answer has `NaN`, `Infinity` or `-Infinity`
nevertheless: the alternatives are `null`, a wrong number, and no answer at all. Triton Inference Server and TensorFlow
Serving write the same tokens, and Python's `json` and JavaScript's `eval` read them. A request with such a token is
refused.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any

import orjson
from msgspec.structs import replace

from sluice.gateway.dialects.base import JSON, Call, Callee, Dialect
from sluice.gateway.dialects.formats.body_bounds import check_structure
from sluice.gateway.dialects.formats.json_tensors import data_in_steps, data_json
from sluice.gateway.dialects.formats.raw_tensors import raw_in_steps
from sluice.gateway.dialects.formats.slices import STEP_ELEMENTS
from sluice.gateway.dialects.refusals import error_object
from sluice.gateway.dialects.targets import version_of
from sluice.gateway.dialects.v2.binary import BINARY_LENGTH, decode_binary, json_length
from sluice.gateway.dialects.v2.body import decode_body
from sluice.gateway.dialects.v2.openapi import prediction_paths
from sluice.gateway.dialects.v2.outputs import V2AnswerForm
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import SluiceError
from sluice.inference.types import Datatype, InferenceRequest, InferenceResponse, Shape, Signature, TensorSpec

OCTETS: tuple[Header, ...] = ((b"content-type", b"application/octet-stream"),)
PLAIN = V2AnswerForm()
PREFIX = "/v2/models/"


class V2(Dialect):
    """The prediction calls of the Open Inference Protocol V2.

    `POST /v2/models/{model}[/versions/{version}]/infer`, a slash at the end allowed. Data is flat or nested; answers
    are flat. The body's content type and unknown members of a request are ignored. Tensors may be binary in both
    directions, outputs may be asked for as classes, and the parameters `timeout` and `priority` say how the call is
    scheduled.
    """

    name = "v2"
    headers = frozenset({BINARY_LENGTH})

    def recognise(self, path: str) -> Call | None:
        """The model and version that a path names. Raises `VersionNotFound` for a version that is no number."""
        if not path.startswith(PREFIX):
            return None
        parts = path.removesuffix("/")[len(PREFIX) :].split("/")
        if parts[-1] != "infer" or not parts[0]:
            return None
        if len(parts) == 2:
            return Call(parts[0])
        if len(parts) == 4 and parts[1] == "versions":
            return Call(parts[0], version_of(parts[0], parts[2]))
        return None

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, naming the input, and `RequestTooLarge`."""
        signature = callee.signature
        max_rows = callee.rows_bound
        lengths = [value for name, value in headers if name == BINARY_LENGTH]
        if lengths:
            request = decode_binary(body, json_length(lengths[-1], len(body)), signature, max_rows)
        else:
            check_structure(body, signature, callee.max_rows)
            request = decode_body(body, signature, max_rows)
        if isinstance(request.reply, V2AnswerForm) and request.reply.forms:
            reply = replace(request.reply, labels=callee.config.labels, batched=signature.batched)
            return replace(request, reply=reply)
        return request

    def encode(self, request: InferenceRequest, response: InferenceResponse) -> HttpResponse:
        """The answer. Raises `InvalidRequest` if an output is a string that is not UTF-8, since JSON has no others."""
        if isinstance(request.reply, V2AnswerForm):
            return super().encode(request, response)
        # Most answers are plain and short: for those, running a generator would take longer than all the rest.
        pieces = _beginning(response)
        separator = b""
        for tensor in response.outputs:
            if tensor.datatype is Datatype.BYTES or tensor.array.size > STEP_ELEMENTS:
                return super().encode(request, response)
            head = _output_head(tensor.name, tensor.datatype, tensor.array.shape)
            pieces += [separator, head, b',"data":', data_json(tensor), b"}"]
            separator = b","
        pieces.append(b"]}")
        return HttpResponse(200, b"".join(pieces), JSON)

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """As `encode`, in steps."""
        pieces = _beginning(response)
        reply = request.reply if isinstance(request.reply, V2AnswerForm) else PLAIN
        binary: list[bytes] = []
        separator = b""
        for tensor in response.outputs:
            if reply is not PLAIN:
                tensor = yield from reply.shaped_in_steps(tensor)
            head = _output_head(tensor.name, tensor.datatype, tensor.array.shape)
            if reply is not PLAIN and reply.form_of(tensor.name).binary:
                data = yield from raw_in_steps(tensor)
                binary.append(data)
                pieces += [separator, head, b',"parameters":{"binary_data_size":%d}}' % len(data)]
            else:
                data = data_json(tensor) if tensor.array.size <= STEP_ELEMENTS else (yield from data_in_steps(tensor))
                pieces += [separator, head, b',"data":', data, b"}"]
            separator = b","
        pieces.append(b"]}")
        if not binary:
            return HttpResponse(200, b"".join(pieces), JSON)
        length = sum(map(len, pieces))
        return HttpResponse(200, b"".join([*pieces, *binary]), (*OCTETS, (BINARY_LENGTH, b"%d" % length)))

    def refuse(self, error: SluiceError) -> HttpResponse:
        """The protocol's error object, `{"error": "…"}`."""
        return error_object(error)

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of both prediction routes, with schemas and examples in line."""
        return prediction_paths()


def _beginning(response: InferenceResponse) -> list[bytes]:
    """An answer up to its outputs."""
    pieces = [_opening(response.model, response.version)]
    if response.id is not None:
        pieces += [b',"id":', orjson.dumps(response.id)]
    if response.parameters:
        pieces += [b',"parameters":', orjson.dumps(dict(response.parameters))]
    pieces.append(b',"outputs":[')
    return pieces


@lru_cache(maxsize=256)
def _opening(model: str, version: int) -> bytes:
    """The beginning of an answer, which all answers of a version share."""
    return orjson.dumps({"model_name": model, "model_version": str(version)}).removesuffix(b"}")


@lru_cache(maxsize=1024)
def _output_head(name: str, datatype: Datatype, shape: Shape) -> bytes:
    """An output up to its data. It is remembered, since writing it would take half of the time of a short answer."""
    head = orjson.dumps({"name": name, "datatype": datatype, "shape": shape})
    return head.removesuffix(b"}")


def model_metadata(name: str, platform: str, versions: Sequence[int], signature: Signature) -> dict[str, Any]:
    """The protocol's metadata of a model: versions as strings, and -1 for an axis of any size."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": platform,
        "inputs": [_tensor_metadata(spec) for spec in signature.inputs],
        "outputs": [_tensor_metadata(spec) for spec in signature.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in spec.shape]
    return {"name": spec.name, "datatype": str(spec.datatype), "shape": shape}
