"""How a model is served: the tables of a `model.toml`, with their defaults.

Docstrings and descriptions of the tables are part of /openapi.json.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from sluice.inference.config.faults import Section

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

LONGEST_BUCKET = 2**31 - 1
"""The largest length that an input may be padded to; many engines count an axis in 32 bits."""

LONGEST_TTL_S = 365 * 86400.0

AUDIT_SHARE = 0.01

_UNITS_BYTES = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_BYTES = re.compile(r"([0-9]+) ?(|B|KiB|MiB|GiB)", re.ASCII)
_DEVICE = re.compile(r"cpu|cuda:(?:0|[1-9][0-9]{0,3})", re.ASCII)


def _bytes_from_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _BYTES.fullmatch(value.strip())
    if match is None:
        raise ValueError('expected a whole number of bytes, such as 65536 or "64KiB" (KiB, MiB or GiB)')
    return int(match[1]) * _UNITS_BYTES[match[2]]


def _device(value: str) -> str:
    device = "cuda:0" if value == "cuda" else value
    if not _DEVICE.fullmatch(device):
        raise ValueError('expected "cpu", or "cuda:N" for the GPU with the number N ("cuda" is "cuda:0")')
    return device


Bytes = Annotated[int, BeforeValidator(_bytes_from_text)]
"""A size in bytes, written as an integer or like "256MiB"."""

Device = Annotated[str, AfterValidator(_device)]
"""`cpu` or `cuda:N`."""


def _truth(value: object) -> object:
    """The value, with the words `true` and `false`, as environment variables have them, made booleans.

    pydantic alone would also take "yes" and 1 for true.
    """
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value, value)
    return value


class BatchingConfig(Section):
    """How requests for a model travel together, and how many may wait.

    With `latency_objective_ms`, requests that could not be answered in that time are refused at once.
    """

    latency_objective_ms: float | None = Field(
        None, gt=0, description="The latency that is promised for each request; none is promised where it is not set."
    )
    max_rows: int | None = Field(
        None, ge=1, le=65536, description="Rows in one batch, at most; measured when the model loads, if not set."
    )
    max_queue_rows: int = Field(4096, ge=1, description="Rows waiting in the queue, at most; more are refused.")
    max_queue_bytes: Bytes = Field(256 * MIB, ge=1, description="Bytes of input waiting in the queue, at most.")
    batched: Annotated[StrictBool | Literal["unchecked"] | None, BeforeValidator(_truth)] = Field(
        None,
        description="true: requests must be batched, and a model whose rows are not known to be independent is "
        'refused. "unchecked": so too, but rows are not compared when the model loads. false: every request runs '
        "alone. Not set: found out when the model loads.",
    )
    audit_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The part of the engine's time for running rows that were answered in batches once more, alone: a "
        'difference ends batching. 0: never. Not set: 0.01, and 0 where batched = "unchecked".',
    )

    @property
    def audited_share(self) -> float:
        """The value of `audit_share` that is in force for a batched model."""
        if self.audit_share is not None:
            return self.audit_share
        return 0.0 if self.batched == "unchecked" else AUDIT_SHARE


class WorkersConfig(Section):
    """The processes that run a model.

    `intra_op_threads` is per worker. Where it or `count` is `None`, measurements at load decide. A run that takes
    longer than `run_timeout_s` counts as hung, and its worker is replaced, as is one that is not ready to serve within
    `load_timeout_s`; the first workers of a version fail its start instead.
    """

    count: int | None = Field(
        None, ge=1, le=64, description="Worker processes for each model version; planned from measurements, if not set."
    )
    device: Device = Field("cpu", description='Where the model runs: "cpu" or "cuda:N".')
    intra_op_threads: int | None = Field(
        None, ge=1, le=1024, description="Threads in each worker; planned from measurements, if not set."
    )
    run_timeout_s: float = Field(
        20.0,
        gt=0,
        description="How long one batch may run before its worker is replaced. Keep it well below the request timeout: "
        "a batch that hangs is run again in parts, and its other requests are to be answered in time.",
    )
    load_timeout_s: float = Field(
        300.0, gt=0, description="How long a worker may take to load the model and warm it up before it is killed."
    )
    replace_timeout_s: float = Field(
        120.0,
        gt=0,
        description="How long a version may be without any worker, while no new one starts, before the gateway says "
        "that it is not alive any more, so that it is restarted.",
    )


def _finite(value: object) -> object:
    if not isinstance(value, int) and not (isinstance(value, float) and math.isfinite(value)):
        raise ValueError("expected a finite number")
    return value


def _rising(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or value[0] < 1 or any(after <= before for before, after in pairwise(value)):
        raise ValueError("expected rising lengths of at least 1, such as [16, 32, 64]")
    if value[-1] > LONGEST_BUCKET:
        raise ValueError(f"expected lengths of at most {LONGEST_BUCKET}")
    return value


class PaddedInput(Section):
    """An input whose length varies along one axis, and the lengths that it is padded to.

    It has either `buckets` of its own, or another padded input that it is always as long as: then both are padded to
    the same length, and a request in which they differ is refused.
    """

    axis: int = Field(1, ge=1, le=31, description="The axis of varying length; 0 is the batch axis.")
    value: Annotated[int | float, BeforeValidator(_finite)] = Field(
        0, description='What the added elements are; BYTES take 0, which is "".'
    )
    buckets: Annotated[tuple[Annotated[int, Field(strict=True)], ...], AfterValidator(_rising)] | None = Field(
        None, description="Lengths, rising; an input is padded to the first that holds it."
    )
    like: str | None = Field(None, description="Another padded input, with buckets, that this one is as long as.")

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if self.buckets is None and self.like is None:
            reason = "expected lengths to pad to, such as [16, 32, 64], or `like` with the input that this one follows"
            raise PydanticCustomError("no_length", reason, {"key": "buckets"})
        if self.buckets is not None and self.like is not None:
            reason = "an input with `like` is padded as the input that it follows; remove one of the two"
            raise PydanticCustomError("two_lengths", reason, {"key": "buckets"})
        return self


class CutOutput(Section):
    """An output that has the padded length along one axis, and is cut back to the length that the caller sent."""

    axis: int = Field(1, ge=1, le=31, description="The axis that follows the input's length.")
    like: str | None = Field(
        None, description="The padded input whose length it follows; not needed if only one has buckets."
    )


class PaddingConfig(Section):
    """Inputs of varying length that share batches, by name, and the outputs that are cut back."""

    inputs: dict[str, PaddedInput] = Field({}, description="Inputs that are padded.")
    outputs: dict[str, CutOutput] = Field({}, description="Outputs that are cut back.")


Truth = Annotated[StrictBool, BeforeValidator(_truth)]
"""`true` or `false`, and no other value that pydantic would convert."""


def _file_name(value: str) -> str:
    if not value or value in (".", "..") or "/" in value or "\0" in value:
        raise ValueError('expected the name of a file without a folder, such as "tokenizer.json"')
    return value


class CacheConfig(Section):
    """Whether and how a model's answers are kept, so that the same rows need not be computed again."""

    enabled: Truth | None = Field(
        None,
        description="Whether answers are kept. Not set: they are, unless the model draws random numbers or was seen to "
        "answer the same rows differently.",
    )
    scope: Literal["row", "request"] | None = Field(
        None,
        description='What is looked up: "row", each row by itself, or "request", all of a request together. Not set: '
        "rows, where the model keeps them apart.",
    )
    ttl_s: float = Field(3600.0, gt=0, le=LONGEST_TTL_S, description="How long an answer is kept.")
    adaptive: Truth = Field(
        True, description="Bypass a tier while its lookups cost more than they save; a sample still goes through it."
    )


class TextConfig(Section):
    """A model that takes the tokens of texts, and gives what becomes each text's embedding.

    The model has the input `ids`, and may have two more: `mask`, with 1 for each token, and `types`, with 0. `output`
    is pooled over each text's tokens where it has one vector for each of them; `pooling = "none"` is for a model that
    gives one vector for each text.
    """

    pooling: Literal["mean", "cls", "last", "max", "none"] = Field(
        description="How a text's vectors become one: their mean, the first, the last, the largest of each element, or "
        '"none" where the model gives one already.'
    )
    tokenizer: Annotated[str, AfterValidator(_file_name)] = Field(
        "tokenizer.json", description="The tokenizer's file, in the version's folder, or else beside model.toml."
    )
    max_tokens: int = Field(512, ge=1, le=1048576, description="Tokens in one text, special ones included, at most.")
    truncate: Truth = Field(False, description="Cut texts with more tokens, in place of refusing them.")
    max_characters: int = Field(4194304, ge=1, description="Characters in all texts of one call, at most.")
    normalise: Truth = Field(True, description="Scale each embedding to length 1.")
    dimensions: Truth = Field(
        False, description="Whether callers may ask for the first few dimensions alone, as Matryoshka models allow."
    )
    ids: str = Field("input_ids", description="The input that takes token ids.")
    mask: str | None = Field(
        None, description='The input that takes the mask. Not set: "attention_mask", where the model has it.'
    )
    types: str | None = Field(
        None, description='The input that takes token types. Not set: "token_type_ids", where the model has it.'
    )
    output: str | None = Field(None, description="The output with the vectors; not needed if there is only one.")


def _above_zero(value: tuple[float, ...]) -> tuple[float, ...]:
    if not all(each > 0 for each in value):
        raise ValueError("expected numbers above 0")
    return value


Sides = tuple[Annotated[int, Field(strict=True, ge=1, le=16384)], Annotated[int, Field(strict=True, ge=1, le=16384)]]


class ImageConfig(Section):
    """How a JPEG or PNG file becomes one row of an input.

    Pixels are from 0 to 255. They are multiplied by `scale`; then `mean` is taken off, and `std` divides the rest.
    """

    size: Sides | None = Field(None, description="[height, width]; not needed where the model has both.")
    layout: Literal["NCHW", "NHWC", "NHW"] | None = Field(
        None, description="What the input's axes are; not needed where an axis of 1 or 3 channels tells it."
    )
    color: Literal["RGB", "BGR", "L"] | None = Field(
        None, description="What the channels are. Not set: RGB for three of them, L (brightness) for one."
    )
    fit: Literal["stretch", "crop"] = Field(
        "stretch", description='"crop": scale the shorter side, then cut out the middle. "stretch": scale both.'
    )
    shorter_side: Annotated[int, Field(strict=True, ge=1, le=16384)] | None = Field(
        None, description="What `crop` scales the shorter side to; the shorter one of `size`, if not set."
    )
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bilinear", description="How pixels are made where the size changes."
    )
    scale: float | None = Field(None, description="What pixels are multiplied by. Not set: they are divided by 255.")
    mean: tuple[float, ...] = Field((), max_length=3, description="Taken off: one number, or one for each channel.")
    std: Annotated[tuple[float, ...], AfterValidator(_above_zero)] = Field(
        (), max_length=3, description="What the rest is divided by: one number, or one for each channel."
    )
    max_pixels: int = Field(
        50_000_000, ge=1, le=2**30, description="Pixels in one image, at most; each takes 4 to 16 bytes of memory."
    )


class InputConfig(Section):
    """What is said of one input."""

    image: ImageConfig | None = None


class ModelConfig(Section):
    """Everything that a `model.toml` may say."""

    batching: BatchingConfig = BatchingConfig()
    workers: WorkersConfig = WorkersConfig()
    cache: CacheConfig = CacheConfig()
    padding: PaddingConfig = PaddingConfig()
    text: TextConfig | None = None
    input: dict[str, InputConfig] = Field({}, description="Inputs that are not sent as numbers, by name.")
    labels: dict[str, tuple[str, ...] | str] = Field(
        {}, description="Names of classes, by output: a list, or a file with one on each line, beside model.toml."
    )
    version_labels: dict[str, Annotated[int, Field(strict=True, ge=1)]] = Field(
        {}, description="Names for versions, such as stable = 3, which callers may use in place of the number."
    )
