"""What a dialect remembers of a request for its answer, on its way from a reader: one union of tagged values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.openai import codec as openai
from sluice.gateway.dialects.sagemaker.codec import InvocationForm
from sluice.gateway.dialects.tfs import body as tfs_body
from sluice.gateway.dialects.tfs import examples as tfs_examples
from sluice.gateway.dialects.torchserve.codec import Labelled
from sluice.gateway.dialects.untyped.body import Question
from sluice.gateway.dialects.v2 import outputs as v2_outputs
from sluice.gateway.dialects.v2_grpc.reply import GrpcReply
from sluice.gateway.inputs.text.embedder import Parts
from sluice.inference.types import InferenceRequest, Tensor


class Embeddings(msgspec.Struct, frozen=True, tag="embeddings"):
    """`openai.Reply` without what the gateway has of its own: the embedder, and the tensors of the request."""

    places: tuple[tuple[int, ...], ...]
    dimensions: int | None
    base64: bool
    tokens: int


Reply: TypeAlias = (
    v2_outputs.OutputsForm
    | tfs_body.PredictAnswerForm
    | tfs_examples.ResultsAnswerForm
    | Question
    | Labelled
    | InvocationForm
    | GrpcReply
    | Embeddings
)

_ENCODER = msgspec.msgpack.Encoder(enc_hook=lambda value: _plain(value))
_DECODER: msgspec.msgpack.Decoder[Reply | None] = msgspec.msgpack.Decoder(Reply | None)


def packed(reply: object) -> bytes:
    """A request's `reply` as a reader sends it."""
    if isinstance(reply, openai.EmbeddingsAnswerForm):
        reply = Embeddings(reply.parts.places, reply.dimensions, reply.base64, reply.tokens)
    return _ENCODER.encode(reply)


def unpacked(sent: bytes | memoryview, request: InferenceRequest, callee: Callee) -> object:
    """The `reply` that was sent with a request, whose tensors are there by now."""
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
