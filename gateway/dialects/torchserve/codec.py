"""TorchServe's inference API: `/predictions/{model}[/{version}]` and `/models/{model}/invoke`.

https://pytorch.org/serve/inference_api.html is the specification. There, a handler's code reads the body; here the
model's signature decides how it is read: see `gateway/dialects/untyped/body.py`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from sluice.gateway.dialects.base import Call, Callee, Dialect, MethodNotAllowed
from sluice.gateway.dialects.refusals import encodable, entry_of, json_refusal, text_of
from sluice.gateway.dialects.targets import no_such_version, version_number
from sluice.gateway.dialects.torchserve.openapi import prediction_paths
from sluice.gateway.dialects.untyped.answer import Labels, answer_in_steps
from sluice.gateway.dialects.untyped.body import UntypedAnswerForm
from sluice.gateway.dialects.untyped.request import is_heavy, request_from_body
from sluice.gateway.headers.content_encoding import UnknownEncoding
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    RequestTooLarge,
    SluiceError,
    Unavailable,
    VersionNotFound,
)
from sluice.inference.types import InferenceRequest, InferenceResponse

CONTENT_TYPE = b"content-type"
_PREDICTIONS = re.compile(r"/predictions/([^/]+)(?:/([^/]+))?/?")
_INVOKE = re.compile(r"/models/([^/]+)/invoke/?")


class TorchServeFault(NamedTuple):
    """How TorchServe tells a kind of error: the status, and the `type` in the body."""

    status: int
    kind: str


FAULTS: Mapping[type[SluiceError], TorchServeFault] = MappingProxyType(
    {
        MethodNotAllowed: TorchServeFault(405, "MethodNotAllowedException"),
        UnknownEncoding: TorchServeFault(415, "BadRequestException"),
        InvalidRequest: TorchServeFault(400, "BadRequestException"),
        VersionNotFound: TorchServeFault(404, "ModelVersionNotFoundException"),
        ModelNotFound: TorchServeFault(404, "ModelNotFoundException"),
        Forbidden: TorchServeFault(403, "InvalidModelVersionException"),
        RequestTooLarge: TorchServeFault(413, "BadRequestException"),
        Unavailable: TorchServeFault(503, "ServiceUnavailableException"),
        DeadlineExceeded: TorchServeFault(504, "RequestTimeoutException"),
        SluiceError: TorchServeFault(500, "InternalServerException"),
    }
)
"""By the nearest ancestor of an error, as `refusals.entry_of` finds it."""


class TorchServe(Dialect):
    """The prediction calls of TorchServe, by POST and PUT.

    A call has one item or several rows; `untyped/body.py` tells which. Instead of an output with `[labels]` in
    `model.toml`, the answer has its five highest classes by name, unless the body has another protocol's form.
    """

    name = "torchserve"
    headers = frozenset({CONTENT_TYPE})
    methods = frozenset({"POST", "PUT"})

    def recognise(self, path: str) -> Call | None:
        """The model and version that a path names. Raises `VersionNotFound` for a version that is no number."""
        if path.startswith("/predictions/"):
            if (named := _PREDICTIONS.fullmatch(path)) is not None:
                return Call(named[1], None if named[2] is None else version_of(named[1], named[2]))
        elif path.startswith("/models/") and (named := _INVOKE.fullmatch(path)) is not None:
            return Call(named[1])
        return None

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether the body is an image, or another large file."""
        return is_heavy(body, callee)

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, and `RequestTooLarge` for an image beyond its bound."""
        content_type = b""
        for name, value in headers:
            if name == CONTENT_TYPE:
                content_type = value
        request = request_from_body(body, content_type, callee)
        if not callee.config.labels:
            return request
        assert isinstance(request.reply, UntypedAnswerForm)
        return replace(request, reply=LabelledAnswerForm(request.reply, callee.config.labels))

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """The answer. Raises `InvalidRequest` if an output cannot be written as JSON."""
        if isinstance(reply := request.reply, LabelledAnswerForm):
            return (yield from answer_in_steps(replace(request, reply=reply.untyped), response, reply.labels))
        return (yield from answer_in_steps(request, response, {}))

    def refuse(self, error: SluiceError) -> HttpResponse:
        """`{"code": …, "type": …, "message": …}`."""
        return refusal(error)

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the prediction routes."""
        return prediction_paths()


class LabelledAnswerForm(msgspec.Struct, frozen=True, tag="labelled"):
    """The form of a request, and the names of the classes by output."""

    untyped: UntypedAnswerForm
    labels: Labels


def version_of(model: str, text: str) -> int:
    """A version as TorchServe's users write it: `2`, or `2.0`. Raises `VersionNotFound` for any other text."""
    number = version_number(text.removesuffix(".0"))
    if number is None:
        raise no_such_version(model, text)
    return number


def refusal(error: SluiceError) -> HttpResponse:
    """An error in TorchServe's form, also for the pages of its management API."""
    fault = entry_of(error, FAULTS)
    return json_refusal(error, fault.status, problem(fault, text_of(error)))


def problem(fault: TorchServeFault, message: str) -> bytes:
    """The body of an error."""
    return orjson.dumps({"code": fault.status, "type": fault.kind, "message": encodable(message)})
