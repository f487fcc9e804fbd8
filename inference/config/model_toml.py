"""Reading a `model.toml`, and the files of class names that it refers to."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sluice.inference.config.faults import faults, read_toml, shown
from sluice.inference.config.fence import Fence, plain_name
from sluice.inference.config.model_config import MIB, ModelConfig
from sluice.inference.errors import RepositoryError

MOST_LABELS, MOST_LABELS_BYTES = 2**20, 16 * MIB
"""Class names in one file, at most, and the length of that file, at most."""


def load_model_config(file: Path, defaults: ModelConfig, fence: Fence | None = None) -> ModelConfig:
    """The `defaults` with the file's keys in place of theirs.

    The files that it names must lie in its folder and within the `fence`, by default that folder. Raises
    `RepositoryError` with every fault of the file: broken TOML with its line; unknown keys and wrong values with the
    dotted key and what is allowed.
    """
    try:
        tables = read_toml(_regular(file))
    except ValueError as error:
        raise RepositoryError(str(error)) from error
    merged: dict[str, object] = defaults.model_dump()
    for name, table in tables.items():
        under = merged.get(name)
        merged[name] = {**under, **table} if isinstance(under, dict) and isinstance(table, dict) else table
    try:
        config = ModelConfig.model_validate(merged)
    except ValidationError as error:
        raise RepositoryError("\n".join(f"{file}: {fault}" for fault in faults(ModelConfig, error))) from error
    within = fence or Fence(file.parent)
    labels = {output: _read_labels(file, output, given, within) for output, given in config.labels.items()}
    return config.model_copy(update={"labels": labels})


def _read_labels(file: Path, output: str, given: tuple[str, ...] | str, fence: Fence) -> tuple[str, ...]:
    if not isinstance(given, str):
        return given
    where = f"{file}: labels.{output}"
    if not plain_name(given):
        raise RepositoryError(f"{where} = {shown(given)}: expected the name of a file in {file.parent}")
    place = file.parent / given
    try:
        if _regular(place).is_file():
            fence.check(place, file, MOST_LABELS_BYTES)
        with place.open("rb") as content:
            names = content.read(MOST_LABELS_BYTES).decode().splitlines()
    except RepositoryError as error:
        raise RepositoryError(f"{where}: {error}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise RepositoryError(f"{where}: {place}: {reason}") from None
    if len(names) > MOST_LABELS:
        raise RepositoryError(f"{where}: {place}: has {len(names)} lines; at most {MOST_LABELS} classes have names")
    return tuple(names)


def _regular(file: Path) -> Path:
    """The file itself. Raises `RepositoryError` for a pipe, a socket and a device: reading one might never end."""
    if file.exists() and not file.is_file() and not file.is_dir():
        raise RepositoryError(f"{file}: is a pipe, a socket or a device; put a file there")
    return file
