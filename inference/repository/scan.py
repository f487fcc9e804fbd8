"""The model repository: which models and versions there are, told from the file names alone.

    models/
        <name>/
            model.toml              optional
            sample.json             optional: a request that the model takes, as Open Inference Protocol V2 JSON
            <version>/
                model.onnx
                sample.json         optional: so too, of this version; or sample.npz (see `sample`)
                ...                 whatever model.onnx refers to, such as external weights

What is no model is passed over, and so is every folder whose name begins with a dot. What seems to be a model and
cannot be served is broken, and keeps no other from being served.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sluice.inference.backends.onnx.model_file import random_operators
from sluice.inference.config.fence import Fence
from sluice.inference.config.model_config import ModelConfig, load_model_config
from sluice.inference.errors import RepositoryError
from sluice.inference.repository.contents import contents
from sluice.inference.repository.sample import SampleFile, find_sample
from sluice.inference.repository.snapshot import FileState, Snapshot

MODEL_FILE = "model.onnx"
CONFIG_FILE = "model.toml"
SAMPLE_FILE = "sample.json"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)


class ModelVersion(msgspec.Struct, frozen=True):
    """One version of a model, as it lies on disk.

    `file` is the ONNX file. `digest` is the sha256, in hexadecimal, of the names and contents of all that loading
    reads: two versions with equal digests give equal answers. `files` are those that the engine loads, and `tokenizer`
    is the one that its texts go through, as they were when the digest was taken. `sample` is a request to try the model
    with, in V2 JSON; nobody has looked into it. `tried_with` is the file of the request with which the model is tried
    when it loads: that one, or another that lies nearer.
    """

    name: str
    version: int
    file: Path
    digest: str
    config: ModelConfig
    sample: Path | None = None
    files: Snapshot | None = None
    tokenizer: FileState | None = None
    tried_with: SampleFile | None = None

    @property
    def random_operators(self) -> tuple[str, ...]:
        """The operators of its graph that draw random numbers. Reads the structure of the file, not its weights."""
        return random_operators(self.file)


class BrokenModel(msgspec.Struct, frozen=True):
    """A version that cannot be served, or a whole model. `reason`: what is wrong, where, and what would be right."""

    name: str
    version: int | None
    reason: str


class ScannedRepository(msgspec.Struct, frozen=True):
    """What lies at a path: versions by name and number, what is broken, and a line for whatever was passed over."""

    versions: tuple[ModelVersion, ...] = ()
    broken: tuple[BrokenModel, ...] = ()
    passed_over: tuple[str, ...] = ()


def look(path: Path, defaults: ModelConfig | None = None, allowed: Iterable[Path] = ()) -> ScannedRepository:
    """Every model at a path: at least one version, or something broken.

    `path` is a repository folder, or one `.onnx` file, which becomes version 1 of the model named by its stem. A
    `model.toml` overrides `defaults` key by key. Files that a graph names lie below `path` or below an `allowed` one.
    Raises `RepositoryError`, naming the path, what was wrong with it and what would be right, where nothing there can
    be a model. Reads every file once, in pieces.
    """
    try:
        scan = _Scan(path, defaults or ModelConfig(), tuple(allowed))
        scan.all()
    except OSError as error:
        raise RepositoryError(_unreadable(path, error)) from error
    found = scan.found()
    if not found.versions and not found.broken:
        right = path / "NAME" / "1" / MODEL_FILE
        raise RepositoryError("\n  ".join([f"{path}: holds no models; put one at {right}", *found.passed_over]))
    return found


def scan(path: Path, defaults: ModelConfig | None = None, allowed: Iterable[Path] = ()) -> tuple[ModelVersion, ...]:
    """As `look`, where nothing may be broken. Raises `RepositoryError` that names all that is, a line for each."""
    return _whole(look(path, defaults, allowed))


def scan_model(
    path: Path, name: str, defaults: ModelConfig | None = None, allowed: Iterable[Path] = ()
) -> tuple[ModelVersion, ...]:
    """The versions of one model at a path, as `scan` would find them; none if it holds no such model.

    Whatever is wrong with other models is no matter. Raises `RepositoryError`.
    """
    try:
        scan = _Scan(path, defaults or ModelConfig(), tuple(allowed))
        if not _NAME.fullmatch(name) or name not in _names(path):
            return ()
        if _is_repository(path):
            scan.entry(path / name)
        else:
            scan.all()
    except OSError as error:
        raise RepositoryError(_unreadable(path, error)) from error
    return _whole(scan.found())


def model_names(path: Path) -> tuple[str, ...]:
    """The names of the models that seem to lie at a path, in alphabetical order; none where it cannot be read."""
    try:
        return tuple(_names(path))
    except OSError:
        return ()


class _Scan:
    """One walk through a repository: what it found so far. Raises `OSError` where the root cannot be read."""

    def __init__(self, path: Path, defaults: ModelConfig, allowed: tuple[Path, ...]) -> None:
        self._path = path
        self._defaults = defaults
        self._fence = Fence(path if path.is_dir() else path.parent, allowed)
        self._versions: list[ModelVersion] = []
        self._broken: list[BrokenModel] = []
        self._passed_over: list[str] = []

    def found(self) -> ScannedRepository:
        versions = sorted(self._versions, key=lambda each: (each.name, each.version))
        broken = [BrokenModel(_told(each.name), each.version, _told(each.reason)) for each in self._broken]
        return ScannedRepository(tuple(versions), tuple(broken), tuple(map(_told, self._passed_over)))

    def all(self) -> None:
        path = self._path
        if not path.exists():
            raise RepositoryError(f"{path}: does not exist; give a folder of models or a .onnx file")
        if not path.is_dir():
            self._bare_file()
        elif not _is_repository(path):
            self._model(path, path.resolve().name)
        else:
            for entry in sorted(path.iterdir()):
                self.entry(entry)

    def entry(self, entry: Path) -> None:
        """Whatever lies in the root of a repository."""
        hidden = entry.name.startswith(".")
        try:
            if entry.is_dir() and hidden:
                self._passed_over.append(f"{entry}: is hidden, and no model")
            elif entry.is_dir():
                self._model(entry, entry.name)
            elif not hidden:
                self._stray(entry)
        except OSError as error:
            if _NAME.fullmatch(entry.name) or not isinstance(error, PermissionError):
                self._broken.append(BrokenModel(entry.name, None, _unreadable(entry, error)))
            else:
                self._passed_over.append(f"{entry}: cannot be looked into, and has no model's name")

    def _stray(self, entry: Path) -> None:
        if entry.suffix == ".onnx" and entry.is_file():
            right = self._path / (entry.stem if entry.name != MODEL_FILE else "NAME") / "1" / MODEL_FILE
            reason = f"{entry}: lies in the repository's root; move it to {right}, or serve {entry} itself"
            self._broken.append(BrokenModel(entry.stem, None, reason))
        elif entry.is_symlink() and not entry.exists():
            self._broken.append(BrokenModel(entry.name, None, _nowhere(entry)))

    def _bare_file(self) -> None:
        path = self._path
        if path.suffix != ".onnx" or not path.is_file():
            raise RepositoryError(
                f"{path}: is neither a folder nor a .onnx file; give a folder of models or a .onnx file"
            )
        if not _NAME.fullmatch(path.stem):
            raise RepositoryError(_misnamed(path, path.stem))
        self._version(path.stem, path, self._defaults, sample=None, folder=None)

    def _model(self, folder: Path, name: str) -> None:
        """A folder that may be a model's."""
        entries = sorted(folder.iterdir())
        numbered = [entry for entry in entries if _VERSION.fullmatch(entry.name)]
        others = [entry for entry in entries if entry not in numbered and _is_folder(entry)]
        misplaced = [entry for entry in others if _is_misplaced(entry)]
        meant = numbered or misplaced or any(each.name == CONFIG_FILE or each.suffix == ".onnx" for each in entries)
        fits = _NAME.fullmatch(name) is not None
        if not meant:
            hint = f"has no versions; put the first one at {folder / '1' / MODEL_FILE}" if fits else "is no model"
            self._passed_over.append(f"{folder}: {hint}")
        elif not fits:
            self._broken.append(BrokenModel(name, None, _misnamed(folder, name)))
        else:
            self._passed_over += [f"{each}: is no version" for each in others if each not in misplaced]
            self._meant_model(folder, name, numbered, misplaced)

    def _meant_model(self, folder: Path, name: str, numbered: Sequence[Path], misplaced: Sequence[Path]) -> None:
        def breaks(reason: str) -> None:
            self._broken.append(BrokenModel(name, None, reason))

        for entry in misplaced:
            breaks(
                f"{entry}: {entry.name!r} is not a version; versions are whole numbers from 1 up without leading zeros"
            )
        if not numbered and not misplaced:
            breaks(f"{folder}: has no versions; put the first one at {folder / '1' / MODEL_FILE}")
        config_file = folder / CONFIG_FILE
        try:
            # A link that leads nowhere is no leave to serve the model without its settings.
            there = config_file.exists() or config_file.is_symlink()
            config = load_model_config(config_file, self._defaults, self._fence) if there else self._defaults
        except RepositoryError as error:
            breaks(str(error))
            return
        sample = folder / SAMPLE_FILE if (folder / SAMPLE_FILE).is_file() else None
        if sample is not None and not self._fence.holds(os.path.realpath(sample), resolved=True):
            self._passed_over.append(f"{sample}: leads out of the repository")
            sample = None
        for entry in numbered:
            self._version(name, entry / MODEL_FILE, config, sample, entry)

    def _version(self, name: str, file: Path, config: ModelConfig, sample: Path | None, folder: Path | None) -> None:
        """A version in a folder of its own, which is named by its number, or the only one of a bare file."""
        version = 1 if folder is None else int(folder.name)
        try:
            if folder is not None and not file.is_file():
                raise RepositoryError(_without_model(folder))
            holds = contents(file, config, self._fence, folder)
        except RepositoryError as error:
            self._broken.append(BrokenModel(name, version, str(error)))
        except OSError as error:
            self._broken.append(BrokenModel(name, version, _unreadable(file, error)))
        else:
            self._passed_over += holds.passed_over
            self._versions.append(
                ModelVersion(
                    name=name,
                    version=version,
                    file=file,
                    digest=holds.digest,
                    config=config,
                    sample=sample,
                    files=holds.engine,
                    tokenizer=holds.tokenizer,
                    tried_with=find_sample(file),
                )
            )


def _names(path: Path) -> list[str]:
    if not path.is_dir():
        return [path.stem]
    if not _is_repository(path):
        return [path.resolve().name]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    return [entry.name for entry in entries if entry.is_dir() and _NAME.fullmatch(entry.name)]


def _is_repository(path: Path) -> bool:
    """Whether the path is a folder of models, and not one model."""
    return path.is_dir() and not any(_VERSION.fullmatch(each.name) and _has_model(each) for each in path.iterdir())


def _is_misplaced(folder: Path) -> bool:
    """Whether a folder beside the versions seems to be one, but for its name."""
    return not folder.name.startswith(".") and (_NUMBER.fullmatch(folder.name) is not None or _has_model(folder))


def _is_folder(entry: Path) -> bool:
    try:
        return entry.is_dir()
    except PermissionError:
        return False


def _has_model(folder: Path) -> bool:
    try:
        return (folder / MODEL_FILE).is_file()
    except PermissionError:
        return False


def _whole(found: ScannedRepository) -> tuple[ModelVersion, ...]:
    if found.broken:
        raise RepositoryError("\n".join([each.reason for each in found.broken]))
    return found.versions


def _misnamed(path: Path, name: str) -> str:
    return (
        f"{path}: {name!r} cannot be a model's name; rename it to 1 to 128 of the characters A-Z a-z 0-9 . _ -, "
        "the first of which is not a dot"
    )


def _without_model(folder: Path) -> str:
    if folder.is_symlink() and not folder.exists():
        return _nowhere(folder)
    return f"{folder}: has no {MODEL_FILE}; the model of version {folder.name} must be {folder / MODEL_FILE}"


def _nowhere(link: Path) -> str:
    return f"{link}: links to {os.readlink(link)}, where there is nothing; put it there, or take the link away"


def _unreadable(path: Path, error: OSError) -> str:
    return f"{error.filename or path}: cannot be read: {error.strerror}"


def _told(text: str) -> str:
    """The text, whatever bytes the names of files in it are made of."""
    return os.fsencode(text).decode(errors="replace")
