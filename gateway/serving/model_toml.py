"""What a model's `model.toml` says of its inputs and outputs, checked against the model that was loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sluice.gateway.dialects.base import Callee
from sluice.gateway.inputs.images.reader import ImageReader, image_readers
from sluice.gateway.inputs.text.embedder import Embedder, embedder_of
from sluice.gateway.inputs.text.tokenizer import load_tokenizer
from sluice.gateway.serving.padding_stage import Padder
from sluice.gateway.telemetry.logs import log
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import RepositoryError, StartError
from sluice.inference.padding.padding import Padding
from sluice.inference.repository.scan import ModelVersion
from sluice.inference.repository.snapshot import changed_file
from sluice.inference.types import Signature


async def build_callee(
    source: ModelVersion, signature: Signature, class_names: Mapping[str, Sequence[str]], max_rows: int
) -> Callee:
    """The version as codecs know it. `class_names` are those in the model's file, by output.

    Files are read in a thread. Raises `RepositoryError` where labels, a tokenizer or pictures do not suit the model.
    """
    _check_labels(source, signature)
    config = _with_class_names(source.config, signature, class_names)
    embedder = await asyncio.to_thread(_embedder, source, signature)
    images = await asyncio.to_thread(_images, source, signature)
    return Callee(
        source.name,
        source.version,
        signature,
        config,
        embedder,
        max_rows=max_rows,
        images=images,
        tokenizer=source.tokenizer,
    )


def build_padder(source: ModelVersion, signature: Signature, on_padded: Callable[[int, int], None]) -> Padder | None:
    """The padding of the version's inputs and outputs, if it has any. Raises `RepositoryError` if it does not fit."""
    config = source.config
    if not config.padding.inputs and not config.padding.outputs:
        return None
    max_rows, max_bytes = config.batching.max_queue_rows, config.batching.max_queue_bytes
    try:
        padding = Padding(signature, config.padding, max_rows=max_rows, max_bytes=max_bytes)
    except RepositoryError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error
    if padding.uncut:
        log.warning(
            "outputs with an axis of any size are not cut back; where one follows a padded input, it comes out padded",
            outputs=", ".join(padding.uncut),
            model=source.name,
            version=source.version,
        )
    return Padder(padding, on_padded)


def _embedder(source: ModelVersion, signature: Signature) -> Embedder | None:
    """How texts become inputs, where `model.toml` has `[text]`. Raises `RepositoryError`."""
    if (config := source.config.text) is None:
        return None
    folder = source.file.parent
    if (tokenizer := source.tokenizer) is None:
        raise RepositoryError(
            f"the model.toml of {source.name!r}: text.tokenizer: there is no {config.tokenizer!r} in {folder} "
            f"or in {folder.parent}"
        )
    file, max_tokens = tokenizer.file, config.max_tokens if config.truncate else None
    try:
        embedder = embedder_of(config, signature, load_tokenizer(file, max_tokens))
    except RepositoryError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error
    if changed_file([tokenizer]) is not None:
        raise RepositoryError(f"{file}: has changed while the version was loaded; load the model anew")
    return embedder


def _images(source: ModelVersion, signature: Signature) -> Mapping[str, ImageReader]:
    """How pictures become inputs, where `model.toml` has `[input.NAME.image]`. Raises `RepositoryError`."""
    try:
        return image_readers(source.config, signature)
    except StartError as error:
        raise RepositoryError(f"the model.toml of {source.name!r}: {error}") from error


def _check_labels(source: ModelVersion, signature: Signature) -> None:
    """Raises `RepositoryError` where labels name no output, or are not as many as the output's last axis is long."""
    outputs = {spec.name: spec for spec in signature.outputs}
    for output, labels in source.config.labels.items():
        fault = f"the model.toml of {source.name!r}: labels.{output}"
        if output not in outputs:
            raise RepositoryError(f"{fault}: the model has no such output; it has {', '.join(map(repr, outputs))}")
        shape = outputs[output].shape
        if shape and shape[-1] is not None and shape[-1] != len(labels):
            raise RepositoryError(f"{fault}: {len(labels)} names for {shape[-1]} classes; name each of them")


def _with_class_names(
    config: ModelConfig, signature: Signature, class_names: Mapping[str, Sequence[str]]
) -> ModelConfig:
    """The configuration with the class names of the model's file for outputs that have no labels in `model.toml`."""
    widths = {spec.name: spec.shape[-1] for spec in signature.outputs if spec.shape}
    found = {name: tuple(names) for name, names in class_names.items() if widths.get(name) in (None, len(names))}
    return config.model_copy(update={"labels": {**found, **config.labels}}) if found else config
