"""OpenAI's API for embeddings: `POST /v1/embeddings`, as its published OpenAPI description has it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import orjson

from sluice.gateway.dialects.base import JSON, Call, Callee, Dialect
from sluice.gateway.dialects.formats.slices import Text, rows_at_a_time
from sluice.gateway.dialects.openai.body import EmbeddingsBody, FieldFault, model_of, read_body, rows_of
from sluice.gateway.dialects.openai.openapi import embeddings_paths
from sluice.gateway.dialects.refusals import entry_of, json_refusal, text_of
from sluice.gateway.inputs.text.embedder import Embedder, Parts
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    RequestTooLarge,
    SluiceError,
    Unavailable,
)
from sluice.inference.types import Array, InferenceRequest, InferenceResponse

PATH = "/v1/embeddings"

LIGHT_BYTES = 2048
"""A body of up to this length is tokenised in the event loop: that takes a millisecond, half a millisecond per KiB."""

INVALID, SERVER = "invalid_request_error", "server_error"


class OpenAIFault(NamedTuple):
    """How OpenAI's API tells a kind of error: the status, and the `type` in the body."""

    status: int
    kind: str


FAULTS: Mapping[type[SluiceError], OpenAIFault] = MappingProxyType(
    {
        InvalidRequest: OpenAIFault(400, INVALID),
        ModelNotFound: OpenAIFault(404, INVALID),
        RequestTooLarge: OpenAIFault(413, INVALID),
        Unavailable: OpenAIFault(503, SERVER),
        DeadlineExceeded: OpenAIFault(504, SERVER),
        SluiceError: OpenAIFault(500, SERVER),
    }
)
"""By the nearest ancestor of an error, as `refusals.entry_of` finds it."""


class EmbeddingsAnswerForm(msgspec.Struct, frozen=True):
    """What the encoding of an answer needs to know of its request; `tokens` are those of all texts together."""

    embedder: Embedder
    parts: Parts
    dimensions: int | None
    base64: bool
    tokens: int


class OpenAI(Dialect):
    """The embeddings of OpenAI's API, for models with `[text]` in their `model.toml`.

    `POST /v1/embeddings`, a slash at the end allowed. `input` is a text, a list of texts, a list of token ids, or a
    list of such lists; each text becomes a row. Keys, organisations and `user` are ignored.
    """

    name = "openai"
    headers = frozenset[bytes]()

    def recognise(self, path: str) -> Call | None:
        """A call without a model, for the only path: the body names the model."""
        return Call("") if path.removesuffix("/") == PATH else None

    def address(self, body: bytes | bytearray) -> Call:
        """The model that the body names. Raises `InvalidRequest`."""
        return Call(model_of(body))

    def heavy(self, body: bytes | bytearray, callee: Callee) -> bool:
        """Whether the texts are long. Tokenising releases the interpreter's lock, so it can run in a thread."""
        return len(body) > LIGHT_BYTES

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The token ids of the texts, in a part for each length. Raises `InvalidRequest` and `RequestTooLarge`."""
        embedder = callee.embedder
        if embedder is None:
            raise FieldFault(
                f"model {callee.name!r} does not embed texts: its model.toml has no [text]; "
                "see GET /v1/models for the models that do",
                param="model",
            )
        asked = read_body(body, embedder.config.max_tokens)
        ids = rows_of(asked, embedder)
        parts = embedder.parts(ids)
        return InferenceRequest(
            inputs=parts.inputs[0],
            outputs=(embedder.output,),
            reply=EmbeddingsAnswerForm(embedder, parts, _dimensions(asked, embedder), asked.base64, sum(map(len, ids))),
            parts=parts.inputs[1:],
        )

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """The embeddings in the order of the texts. Raises `InvalidRequest` if the model has too few dimensions."""
        reply = request.reply
        assert isinstance(reply, EmbeddingsAnswerForm)
        outputs = [outputs[0].array for outputs in (response.outputs, *response.parts)]
        try:
            embeddings = reply.embedder.embeddings(reply.parts, outputs, reply.dimensions)
        except InvalidRequest as fault:
            raise FieldFault(str(fault), param="dimensions") from None
        text, told = Text(), _as_base64 if reply.base64 else _as_numbers
        for part in rows_at_a_time(*embeddings.shape):
            for place, each in enumerate(told(embeddings[part]), part.start):
                text.add(b'{"object":"embedding","index":%d,"embedding":%b}' % (place, each))
            if part.stop < len(embeddings):
                yield
        data = text.joined(b",")
        body = b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
            data,
            orjson.dumps(response.model),
            reply.tokens,
            reply.tokens,
        )
        return HttpResponse(200, body, JSON)

    def refuse(self, error: SluiceError) -> HttpResponse:
        """OpenAI's error object; its clients try again after `Retry-After` where the status is 500 or more."""
        fault = entry_of(error, FAULTS)
        return json_refusal(error, fault.status, error_json(error, fault.kind))

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the route, with schemas and examples in line."""
        return embeddings_paths()


def error_json(error: SluiceError, kind: str) -> bytes:
    """The body that OpenAI's API has for an error."""
    param = error.param if isinstance(error, FieldFault) else None
    code = None
    if isinstance(error, ModelNotFound):
        param, code = "model", "model_not_found"
    return orjson.dumps({"error": {"message": text_of(error), "type": kind, "param": param, "code": code}})


def _dimensions(asked: EmbeddingsBody, embedder: Embedder) -> int | None:
    if asked.dimensions is not None and not embedder.config.dimensions:
        raise FieldFault("this model does not support specifying dimensions", param="dimensions")
    return asked.dimensions


def _as_numbers(embeddings: Array) -> list[bytes]:
    return [orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) for each in embeddings]


def _as_base64(embeddings: Array) -> list[bytes]:
    """As float32, little-endian on every machine."""
    little = embeddings.astype("<f4", copy=False)
    return [b'"%b"' % b64encode(each) for each in little]
