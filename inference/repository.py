"""The model repository: which models and versions there are, told from the file names alone.

    models/
        <name>/
            model.toml              optional
            sample.json             optional: a request that the model takes, as Open Inference Protocol V2 JSON
            <version>/
                model.onnx
                sample.json         optional: so too, of this version; or sample.npz (see `inference.sample`)
                ...                 whatever model.onnx refers to, such as external weights

Hidden files and folders, whose names begin with a dot, are passed over, as is everything else that is no model.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from inference.backends.onnx.model_file import external_files, random_operators
from inference.config import ModelConfig, load_model_config
from inference.errors import RepositoryError
from inference.sample import SampleFile, find_sample
from inference.snapshot import Snapshot, take_snapshot

MODEL_FILE = "model.onnx"
CONFIG_FILE = "model.toml"
SAMPLE_FILE = "sample.json"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)


class ModelVersion(msgspec.Struct, frozen=True):
    """One version of a model, as it lies on disk.

    `file` is the ONNX file. `digest` is the sha256, in hexadecimal, of the names and contents of the version's files:
    two versions with equal digests give equal answers. The version's files are all of its folder, or of a bare file the
    file itself and those that it refers to. `files` is how they lay on disk before the digest was taken. `sample` is a
    request to try the model with, in V2 JSON; nobody has looked into it. `tried_with` is the file of the request with
    which the model is tried when it loads: that one, or another that lies nearer.
    """

    name: str
    version: int
    file: Path
    digest: str
    config: ModelConfig
    sample: Path | None = None
    files: Snapshot | None = None
    tried_with: SampleFile | None = None

    @property
    def random_operators(self) -> tuple[str, ...]:
        """The operators of its graph that draw random numbers. Reads the structure of the file, not its weights."""
        return random_operators(self.file)


def scan(path: Path, defaults: ModelConfig | None = None) -> tuple[ModelVersion, ...]:
    """Every model version at a path, by name and version; at least one.

    `path` is a repository folder, or one `.onnx` file, which becomes version 1 of the model named by its stem. A
    `model.toml` overrides `defaults` key by key. Raises `RepositoryError`, naming the path, what was wrong with it and
    what would be right. Reads every file once, in pieces.
    """
    try:
        return _scan(path, defaults or ModelConfig())
    except OSError as error:
        raise RepositoryError(f"{error.filename or path}: cannot be read: {error.strerror}") from error


def scan_model(path: Path, name: str, defaults: ModelConfig | None = None) -> tuple[ModelVersion, ...]:
    """The versions of one model at a path, as `scan` would find them; none if it holds no such model.

    Whatever is wrong with other models is no matter. Raises `RepositoryError`.
    """
    try:
        if not _NAME.fullmatch(name) or name not in _names(path):
            return ()
        if _is_repository(path):
            return _scan_model(path / name, name, defaults or ModelConfig())
        return _scan(path, defaults or ModelConfig())
    except OSError as error:
        raise RepositoryError(f"{error.filename or path}: cannot be read: {error.strerror}") from error


def model_names(path: Path) -> tuple[str, ...]:
    """The names of the models that seem to lie at a path, in alphabetical order; none where it cannot be read."""
    try:
        return tuple(_names(path))
    except OSError:
        return ()


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return [path.stem]
    if not _is_repository(path):
        return [path.resolve().name]
    return [entry.name for entry in _visible(path) if entry.is_dir() and _NAME.fullmatch(entry.name)]


def _is_repository(path: Path) -> bool:
    """Whether the path is a folder of models, and not one model."""
    return path.is_dir() and not any(_is_version(entry) for entry in _visible(path))


def _is_version(folder: Path) -> bool:
    return _VERSION.fullmatch(folder.name) is not None and (folder / MODEL_FILE).is_file()


def _scan(path: Path, defaults: ModelConfig) -> tuple[ModelVersion, ...]:
    if not path.exists():
        raise RepositoryError(f"{path}: does not exist; give a folder of models or a .onnx file")
    if path.is_dir():
        return _scan_folder(path, defaults)
    if path.suffix != ".onnx" or not path.is_file():
        raise RepositoryError(f"{path}: is neither a folder nor a .onnx file; give a folder of models or a .onnx file")
    _check_name(path, path.stem)
    contents = {path.name: path} | {name: path.parent / name for name in external_files(path)}
    snapshot, digest = _identity(path, {name: file for name, file in contents.items() if file.is_file()})
    return (ModelVersion(path.stem, 1, path, digest, defaults, files=snapshot),)


def _scan_folder(path: Path, defaults: ModelConfig) -> tuple[ModelVersion, ...]:
    entries = _visible(path)
    if any(_is_version(entry) for entry in entries):
        name = path.resolve().name
        _check_name(path, name)
        return _scan_model(path, name, defaults)
    for entry in entries:
        if entry.suffix == ".onnx" and entry.is_file():
            right = path / (entry.stem if entry.name != MODEL_FILE else "NAME") / "1" / MODEL_FILE
            raise RepositoryError(
                f"{entry}: lies in the repository's root; move it to {right}, or serve {entry} itself"
            )
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise RepositoryError(f"{path}: holds no models; put one at {path / 'NAME' / '1' / MODEL_FILE}")
    versions: list[ModelVersion] = []
    for folder in folders:
        _check_name(folder, folder.name)
        versions += _scan_model(folder, folder.name, defaults)
    return tuple(versions)


def _scan_model(folder: Path, name: str, defaults: ModelConfig) -> tuple[ModelVersion, ...]:
    config_file = folder / CONFIG_FILE
    config = load_model_config(config_file, defaults) if config_file.exists() else defaults
    sample = folder / SAMPLE_FILE if (folder / SAMPLE_FILE).is_file() else None
    versions: list[ModelVersion] = []
    for entry in [entry for entry in _visible(folder) if entry.is_dir()]:
        file = entry / MODEL_FILE
        if _VERSION.fullmatch(entry.name):
            if not file.is_file():
                raise RepositoryError(f"{entry}: has no {MODEL_FILE}; the model of version {entry.name} must be {file}")
            contents = {each.relative_to(entry).as_posix(): each for each in _files_below(entry)}
            snapshot, digest = _identity(file, contents)
            tried_with = find_sample(file)
            versions.append(ModelVersion(name, int(entry.name), file, digest, config, sample, snapshot, tried_with))
        elif file.exists() or _NUMBER.fullmatch(entry.name):
            raise RepositoryError(
                f"{entry}: {entry.name!r} is not a version; versions are whole numbers from 1 up without leading zeros"
            )
    if not versions:
        raise RepositoryError(f"{folder}: has no versions; put the first one at {folder / '1' / MODEL_FILE}")
    return tuple(sorted(versions, key=lambda each: each.version))


def _check_name(path: Path, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RepositoryError(
            f"{path}: {name!r} cannot be a model's name; rename it to 1 to 128 of the characters A-Z a-z 0-9 . _ -, "
            "the first of which is not a dot"
        )


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _files_below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (file for name in files if not name.startswith(".") and (file := Path(parent, name)).is_file())


def _identity(model_file: Path, contents: Mapping[str, Path]) -> tuple[Snapshot, str]:
    snapshot = take_snapshot(model_file)
    digest = _digest(contents)
    file = snapshot.changed() if model_file.resolve() == snapshot.model_file else model_file
    if file is not None:
        raise RepositoryError(f"{file}: has changed while it was read; put new files into a version of their own")
    return snapshot, digest


def _digest(files: Mapping[str, Path]) -> str:
    """Over each file's name and the digest of its content, which is read in pieces."""
    whole = hashlib.sha256()
    for name, file in sorted(files.items()):
        with file.open("rb") as content:
            # The fixed length of a digest, and the zero that no name contains, keep one file's end from being read
            # as the next one's beginning.
            whole.update(os.fsencode(name) + b"\0" + hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()
