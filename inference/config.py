"""How a model is served: what `model.toml` may say, and the defaults of the whole gateway behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from inference.errors import RepositoryError
from inference.faults import Section, faults, read_toml

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

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


class BatchingConfig(Section):
    """How requests for a model travel together, and how many may wait."""

    max_rows: int = Field(64, ge=1, le=65536, description="Rows in one batch, at most.")
    max_queue_rows: int = Field(4096, ge=1, description="Rows waiting in the queue, at most; more are refused.")
    max_queue_bytes: Bytes = Field(256 * MIB, ge=1, description="Bytes of input waiting in the queue, at most.")
    batched: bool | None = Field(
        None,
        description="true: axis 0 is the batch axis, and rows are not compared when the model is tried at its start. "
        "false: axis 0 is not the batch axis; every request runs alone.",
    )


class WorkersConfig(Section):
    """The processes that run a model.

    `intra_op_threads` is per worker; `None` leaves the choice to the pool, which shares all cores but one out. A run
    that takes longer than `run_timeout_s` counts as hung, and its worker is replaced, as is one that is not ready to
    serve within `load_timeout_s`; the first workers of a version fail its start instead.
    """

    count: int = Field(1, ge=1, le=64, description="Worker processes for each model version.")
    device: Device = Field("cpu", description='Where the model runs: "cpu" or "cuda:N".')
    intra_op_threads: int | None = Field(None, ge=1, le=1024, description="Threads in each worker.")
    run_timeout_s: float = Field(
        20.0,
        gt=0,
        description="How long one batch may run before its worker is replaced. Keep it well below the request timeout: "
        "a batch that hangs is run again in parts, and its other requests are to be answered in time.",
    )
    load_timeout_s: float = Field(
        300.0, gt=0, description="How long a worker may take to load the model and warm it up before it is killed."
    )


class ModelConfig(Section):
    """Everything that a `model.toml` may say."""

    batching: BatchingConfig = BatchingConfig()
    workers: WorkersConfig = WorkersConfig()


def load_model_config(file: Path, defaults: ModelConfig) -> ModelConfig:
    """The `defaults`, save for the keys that the file sets.

    Raises `RepositoryError` with every fault of the file: broken TOML with its line; unknown keys and wrong values with
    the dotted key and what is allowed.
    """
    try:
        tables = read_toml(file)
    except ValueError as error:
        raise RepositoryError(str(error)) from error
    merged: dict[str, object] = defaults.model_dump()
    for name, table in tables.items():
        under = merged.get(name)
        merged[name] = {**under, **table} if isinstance(under, dict) and isinstance(table, dict) else table
    try:
        return ModelConfig.model_validate(merged)
    except ValidationError as error:
        raise RepositoryError("\n".join(f"{file}: {fault}" for fault in faults(ModelConfig, error))) from error
