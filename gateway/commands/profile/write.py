"""Writes a plan into a model's `model.toml`, and keeps everything else in it. Only this file imports tomlkit."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sluice.gateway.commands.profile.measure import Profile
from sluice.inference.errors import RepositoryError
from sluice.inference.repository.scan import CONFIG_FILE, ModelVersion

_FIRST_LINE = "# The plan was written by `sluice profile --write`."


def model_toml(source: ModelVersion, models: Path) -> Path:
    """The path of the model's `model.toml`, which need not exist. Raises `RepositoryError` for a bare file.

    If `models` is the file of one version, it is a bare file, too: it is served without the `model.toml` above it.
    """
    if models.is_file() and models.name == source.engine.model_file and models.absolute().parent.name.isdecimal():
        raise RepositoryError(
            f"--write: {models} is a file by itself here, and served without a {CONFIG_FILE}; give the model's folder, "
            f"{models.absolute().parent.parent}"
        )
    if models.is_file():
        right = models.with_suffix("") / "1" / source.engine.model_file
        raise RepositoryError(
            f"--write: {models} is a file by itself, and only a model in a folder has a {CONFIG_FILE}; "
            f"move it to {right}"
        )
    return source.file.parent.parent / CONFIG_FILE


def settings_of(found: Profile, objective_ms: float | None) -> dict[str, dict[str, int | float]]:
    """The tables and keys of a plan. `objective_ms` is the one that was given on the command line.

    Raises `RepositoryError` for a model that could not be measured: its plan is only a guess.
    """
    if not found.plan.knots:
        raise RepositoryError(
            f"--write: {found.source.name!r} could not be measured, so there is no plan to write; set "
            "batching.max_rows, workers.count and workers.intra_op_threads by hand"
        )
    batching: dict[str, int | float] = {}
    if objective_ms is not None:
        batching["latency_objective_ms"] = int(objective_ms) if objective_ms.is_integer() else objective_ms
    if found.batched:
        batching["max_rows"] = found.plan.max_rows
    workers: dict[str, int | float] = {
        "count": found.plan.workers,
        "intra_op_threads": found.plan.intra_op_threads,
    }
    return {"batching": batching, "workers": workers} if batching else {"workers": workers}


def write_plan(file: Path, settings: Mapping[str, Mapping[str, int | float]]) -> str:
    """Sets the keys in the file and keeps everything else in it. Creates it if it does not exist.

    The file is replaced as a whole or not at all. Returns what was set, in words. Raises `RepositoryError` if it cannot
    be written.
    """
    try:
        file = file.resolve()
        old = file.read_text() if file.exists() else None
        _replace(file, _with(file, old, settings))
    except OSError as error:
        raise RepositoryError(f"{file}: cannot be written: {error.strerror or error}") from error
    return _told(settings)


def _with(file: Path, old: str | None, settings: Mapping[str, Mapping[str, int | float]]) -> str:
    import tomlkit  # here, since only `--write` needs it

    document = tomlkit.parse(f"{_FIRST_LINE}\n" if old is None else old)
    for name, keys in settings.items():
        if name not in document:
            document[name] = tomlkit.table()
        table: Any = document[name]
        for key, value in keys.items():
            table[key] = value
    text = tomlkit.dumps(document)
    expected: dict[str, Any] = tomllib.loads(old or "")
    for name, keys in settings.items():
        expected[name] = {**expected.get(name, {}), **keys}
    try:
        right = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise RepositoryError(
            f"{file}: could not be changed without touching what stands there; set {_told(settings)} by hand"
        )
    return text


def _told(settings: Mapping[str, Mapping[str, int | float]]) -> str:
    return ", ".join(f"{name}.{key} = {value}" for name, keys in settings.items() for key, value in keys.items())


def _replace(file: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(text)
            new.flush()
            os.fsync(descriptor)
        os.chmod(name, file.stat().st_mode & 0o7777 if file.exists() else 0o666 & ~_umask())
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
