"""How `InferenceRequest.reply`, what a dialect needs for its answer, travels from a reader: as one tagged value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.openai import codec as openai
from sluice.gateway.dialects.sagemaker.codec import InvocationAnswerForm
from sluice.gateway.dialects.tfs import body as tfs_body
from sluice.gateway.dialects.tfs import examples as tfs_examples
from sluice.gateway.dialects.torchserve.codec import LabelledAnswerForm
from sluice.gateway.dialects.untyped.body import UntypedAnswerForm
from sluice.gateway.dialects.v2 import outputs as v2_outputs
from sluice.gateway.dialects.v2_grpc.answer_form import GrpcAnswerForm
from sluice.gateway.inputs.text.embedder import Parts
from sluice.inference.types import InferenceRequest, Tensor


class Embeddings(msgspec.Struct, frozen=True, tag="embeddings"):
    """An `openai.EmbeddingsAnswerForm` without what the gateway has: the embedder, and the tensors of the request."""

    places: tuple[tuple[int, ...], ...]
    dimensions: int | None
    base64: bool
    tokens: int


Reply: TypeAlias = (
    v2_outputs.V2AnswerForm
    | tfs_body.PredictAnswerForm
    | tfs_examples.ResultsAnswerForm
    | UntypedAnswerForm
    | LabelledAnswerForm
    | InvocationAnswerForm
    | GrpcAnswerForm
    | Embeddings
)

_ENCODER = msgspec.msgpack.Encoder(enc_hook=lambda value: _plain(value))
_DECODER: msgspec.msgpack.Decoder[Reply | None] = msgspec.msgpack.Decoder(Reply | None)


def packed(reply: object) -> bytes:
    """A request's `reply` as bytes."""
    if isinstance(reply, openai.EmbeddingsAnswerForm):
        reply = Embeddings(reply.parts.places, reply.dimensions, reply.base64, reply.tokens)
    return _ENCODER.encode(reply)


def unpacked(sent: bytes | memoryview, request: InferenceRequest, callee: Callee) -> object:
    """The `reply` in these bytes, for a request whose tensors have arrived already."""
    reply = _DECODER.decode(sent)
    if isinstance(reply, Embeddings):
        assert callee.embedder is not None
        inputs: tuple[tuple[Tensor, ...], ...] = (request.inputs, *request.parts)
        parts = Parts(reply.places, inputs)
        return openai.EmbeddingsAnswerForm(callee.embedder, parts, reply.dimensions, reply.base64, reply.tokens)
    return reply


def _plain(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be sent by a reader")
