"""What a reader has to know of a model version: sent to it once, and rebuilt there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from sluice.gateway.dialects.base import NO_IMAGES, Callee
from sluice.gateway.inputs.images.reader import image_readers
from sluice.gateway.inputs.text.embedder import Embedder, embedder_of
from sluice.gateway.inputs.text.tokenizer import load_tokenizer
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import ModelNotReady
from sluice.inference.types import Signature


class CalleeDescription(msgspec.Struct, frozen=True):
    """A `Callee` that can be sent. `config` is JSON, and `tokenizer` a file with the sha256 of its content."""

    name: str
    version: int
    signature: Signature
    config: bytes
    max_rows: int
    has_images: bool
    tokenizer: tuple[str, str] | None


_DECODER = msgspec.msgpack.Decoder(CalleeDescription)


def described(callee: Callee) -> bytes:
    """The description of a callee, from which `KnownCallee` builds the same one."""
    file = None if callee.embedder is None else callee.tokenizer
    description = CalleeDescription(
        name=callee.name,
        version=callee.version,
        signature=callee.signature,
        config=callee.config.model_dump_json().encode(),
        max_rows=callee.max_rows,
        has_images=bool(callee.images),
        tokenizer=None if file is None else (str(file.file), file.sha256),
    )
    return msgspec.msgpack.encode(description)


class KnownCallee:
    """A callee in a reader, built at its first use. Its tokenizer, which is large, is loaded for the first text."""

    def __init__(self, description: bytes) -> None:
        self._description = description
        self._callee: Callee | None = None

    def callee(self) -> Callee:
        """The callee. It has its embedder only if `embedding` was called before."""
        if self._callee is None:
            told = _DECODER.decode(self._description)
            config = ModelConfig.model_validate_json(told.config)
            images = image_readers(config, told.signature) if told.has_images else NO_IMAGES
            self._callee = Callee(
                told.name, told.version, told.signature, config, max_rows=told.max_rows, images=images
            )
        return self._callee

    def embedding(self) -> Callee:
        """The callee with its embedder, if it has one. Raises `ModelNotReady` if the tokenizer's file has changed."""
        callee = self.callee()
        told = _DECODER.decode(self._description)
        if told.tokenizer is not None and callee.embedder is None:
            callee = self._callee = msgspec.structs.replace(callee, embedder=_embedder(callee, *told.tokenizer))
        return callee


def _embedder(callee: Callee, file: str, sha256: str) -> Embedder:
    config = callee.config.text
    assert config is not None
    if hashlib.sha256(Path(file).read_bytes()).hexdigest() != sha256:
        raise ModelNotReady(f"model {callee.name!r}: its tokenizer has changed on disk; load the model anew")
    tokenizer = load_tokenizer(Path(file), config.max_tokens if config.truncate else None)
    return embedder_of(config, callee.signature, tokenizer)
