"""Embedders for tests: a tokenizer of letters, and the signature of a model of text."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.gateway.dialects.base import Callee
from sluice.gateway.inputs.text.embedder import Embedder, embedder_of
from sluice.inference.config.model_config import ModelConfig, TextConfig
from sluice.inference.types import Datatype, Signature, TensorSpec

CONFIG = TextConfig(pooling="mean", ids="ids", mask="mask", output="vectors", max_tokens=8)


class Letters:
    """Each small letter is a token: a is 0."""

    vocabulary = 26

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) - ord("a") for letter in text if letter != " "] for text in texts]


def tokens_spec(name: str, datatype: Datatype = Datatype.INT64) -> TensorSpec:
    return TensorSpec(name, datatype, (None, None))


def signature_of(*inputs: TensorSpec, outputs: Sequence[TensorSpec] | None = None, batched: bool = True) -> Signature:
    vectors = (
        TensorSpec("vectors", Datatype.FP32, (None, None, 2)),
        TensorSpec("pooled", Datatype.FP32, (None, 2)),
    )
    return Signature(
        inputs or (tokens_spec("ids"), tokens_spec("mask")), vectors if outputs is None else tuple(outputs), batched
    )


def embedder(config: TextConfig = CONFIG, signature: Signature | None = None) -> Embedder:
    return embedder_of(config, signature_of() if signature is None else signature, Letters())


def text_callee(config: TextConfig = CONFIG) -> Callee:
    signature = signature_of()
    return Callee("texts", 1, signature, ModelConfig(text=config), embedder(config, signature))
