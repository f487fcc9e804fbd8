"""The engines that there are. Other rooms know no more of an engine than is here and in `base`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice.inference.backends.base import Engine
from sluice.inference.backends.onnx.engine import OnnxRuntime

ENGINES: tuple[Engine, ...] = (OnnxRuntime(),)
"""The first one is the usual one: hints on where to put a model name its file."""


def engine_of(model_file: Path) -> Engine:
    """The engine that runs a file, by its suffix. For any other file it is the first one, which refuses to load it."""
    return next((each for each in ENGINES if is_model_of(each, model_file)), ENGINES[0])


def is_model_file(file: Path) -> bool:
    """Whether a file has the suffix of an engine's model files."""
    return any(is_model_of(each, file) for each in ENGINES)


def is_model_of(engine: Engine, file: Path) -> bool:
    """Whether a file has the suffix of this engine's model files."""
    return file.suffix == Path(engine.model_file).suffix


def engine_versions() -> Mapping[str, str]:
    """The installed version of each engine, by its name."""
    return {each.name: each.version() for each in ENGINES}
