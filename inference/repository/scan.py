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
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sluice.inference.backends.base import Engine
from sluice.inference.backends.registry import engine_of, is_model_file
from sluice.inference.config.fence import Fence
from sluice.inference.config.model_config import ModelConfig, load_model_config
from sluice.inference.errors import RepositoryError
from sluice.inference.repository.contents import contents
from sluice.inference.repository.folders import (
    A_MODEL_FILE,
    MODEL_FILE,
    VERSION,
    is_folder,
    is_misplaced,
    is_name,
    is_repository,
    link_to_nothing,
    misnamed,
    model_file_in,
    names_at,
    printable,
    unreadable,
)
from sluice.inference.repository.sample import SampleFile, find_sample
from sluice.inference.repository.snapshot import FileState, Snapshot

CONFIG_FILE = "model.toml"
SAMPLE_FILE = "sample.json"


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
    def engine(self) -> Engine:
        """The engine that runs it."""
        return engine_of(self.file)

    @property
    def random_operators(self) -> tuple[str, ...]:
        """The operators of its graph that draw random numbers. Reads the structure of the file, not its weights."""
        return self.engine.random_operators(self.file)


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
        raise RepositoryError(unreadable(path, error)) from error
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
        if not is_name(name) or name not in names_at(path):
            return ()
        if is_repository(path):
            scan.entry(path / name)
        else:
            scan.all()
    except OSError as error:
        raise RepositoryError(unreadable(path, error)) from error
    return _whole(scan.found())


def model_names(path: Path) -> tuple[str, ...]:
    """The names of the models that seem to lie at a path, in alphabetical order; none where it cannot be read."""
    try:
        return tuple(names_at(path))
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
        broken = [BrokenModel(printable(each.name), each.version, printable(each.reason)) for each in self._broken]
        return ScannedRepository(tuple(versions), tuple(broken), tuple(map(printable, self._passed_over)))

    def all(self) -> None:
        path = self._path
        if not path.exists():
            raise RepositoryError(f"{path}: does not exist; give a folder of models or {A_MODEL_FILE}")
        if not path.is_dir():
            self._bare_file()
        elif not is_repository(path):
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
            if is_name(entry.name) or not isinstance(error, PermissionError):
                self._broken.append(BrokenModel(entry.name, None, unreadable(entry, error)))
            else:
                self._passed_over.append(f"{entry}: cannot be looked into, and has no model's name")

    def _stray(self, entry: Path) -> None:
        if is_model_file(entry) and entry.is_file():
            model_file = engine_of(entry).model_file
            right = self._path / (entry.stem if entry.name != model_file else "NAME") / "1" / model_file
            reason = f"{entry}: lies in the repository's root; move it to {right}, or serve {entry} itself"
            self._broken.append(BrokenModel(entry.stem, None, reason))
        elif entry.is_symlink() and not entry.exists():
            self._broken.append(BrokenModel(entry.name, None, link_to_nothing(entry)))

    def _bare_file(self) -> None:
        path = self._path
        if not is_model_file(path) or not path.is_file():
            raise RepositoryError(
                f"{path}: is neither a folder nor {A_MODEL_FILE}; give a folder of models or {A_MODEL_FILE}"
            )
        if not is_name(path.stem):
            raise RepositoryError(misnamed(path, path.stem))
        self._version(path.stem, path, self._defaults, sample=None, bare=True)

    def _model(self, folder: Path, name: str) -> None:
        """A folder that may be a model's."""
        entries = sorted(folder.iterdir())
        numbered = [entry for entry in entries if VERSION.fullmatch(entry.name)]
        others = [entry for entry in entries if entry not in numbered and is_folder(entry)]
        misplaced = [entry for entry in others if is_misplaced(entry)]
        meant = numbered or misplaced or any(each.name == CONFIG_FILE or is_model_file(each) for each in entries)
        fits = is_name(name)
        if not meant:
            hint = f"has no versions; put the first one at {folder / '1' / MODEL_FILE}" if fits else "is no model"
            self._passed_over.append(f"{folder}: {hint}")
        elif not fits:
            self._broken.append(BrokenModel(name, None, misnamed(folder, name)))
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
            self._version(name, entry, config, sample)

    def _version(self, name: str, place: Path, config: ModelConfig, sample: Path | None, *, bare: bool = False) -> None:
        """A version in a folder named by its number, or the only version of a bare file."""
        version = 1 if bare else int(place.name)
        try:
            file = place if bare else model_file_in(place)
            holds = contents(file, config, self._fence, None if bare else place)
        except RepositoryError as error:
            self._broken.append(BrokenModel(name, version, str(error)))
        except OSError as error:
            self._broken.append(BrokenModel(name, version, unreadable(place, error)))
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


def _whole(found: ScannedRepository) -> tuple[ModelVersion, ...]:
    if found.broken:
        raise RepositoryError("\n".join([each.reason for each in found.broken]))
    return found.versions
