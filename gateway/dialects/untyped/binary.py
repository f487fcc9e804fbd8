"""V2 with binary tensors, for protocols that say in a place of their own how long the JSON is."""

from __future__ import annotations

from msgspec.structs import replace

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.untyped.body import OPEN, BodyForm, UntypedAnswerForm
from sluice.gateway.dialects.v2.binary import BINARY_LENGTH
from sluice.gateway.dialects.v2.outputs import V2AnswerForm
from sluice.gateway.messages import HttpResponse
from sluice.inference.types import InferenceRequest


def request_from_binary(body: bytes | bytearray, json_bytes: bytes, callee: Callee) -> InferenceRequest:
    """The request in a body that begins with JSON of a length in bytes, written in digits.

    Its reply is an `UntypedAnswerForm`. Raises `InvalidRequest` and `RequestTooLarge`.
    """
    request = OPEN.decode(body, ((BINARY_LENGTH, json_bytes),), callee)
    assert request.reply is None or isinstance(request.reply, V2AnswerForm)
    return replace(request, reply=UntypedAnswerForm(BodyForm.V2, inner=request.reply))


def json_bytes_of(answer: HttpResponse) -> bytes | None:
    """How many bytes of JSON a binary answer begins with, in digits; `None` if it is no binary one."""
    return next((value for name, value in answer.headers if name == BINARY_LENGTH), None)
