"""The model repository: which models and versions there are. Their names and places tell; no registry is kept.

    models/
        <name>/
            model.toml              optional
            sample.json             optional: a request that the model takes, as Open Inference Protocol V2 JSON
            <version>/
                model.onnx
                sample.json         optional: such a request for this version alone; or sample.npz (see `sample`)
                ...                 the files that model.onnx refers to, such as external weights

Folders that are no models are passed over, and so is every folder whose name begins with a dot. What seems to be a
model but cannot be served is broken; the other models are served all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sluice.inference.backends.base import Engine
from sluice.inference.backends.registry import engine_of, is_model_file
from sluice.inference.config.fence import Fence
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.config.model_toml import load_model_config
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
    """One version of a model on disk.

    `file` is the model file. `digest` is the sha256, in hexadecimal, of the names and contents of all files of the
    version: two versions with equal digests give equal answers. `files` are those that the engine loads, and
    `tokenizer` is the file of the tokenizer, both as they were when the digest was taken. `sample` is a request for the
    model in V2 JSON, which was not checked. `tried_with` is the sample with which the model is tried when it loads:
    the same file, or one in the version's own folder.
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
    """A version, or a whole model, that cannot be served. `reason`: what is wrong, where, and what would be right."""

    name: str
    version: int | None
    reason: str


class ScannedRepository(msgspec.Struct, frozen=True):
    """What lies at a path: versions by name and number, what is broken, and a line for each thing passed over."""

    versions: tuple[ModelVersion, ...] = ()
    broken: tuple[BrokenModel, ...] = ()
    passed_over: tuple[str, ...] = ()


def look(path: Path, defaults: ModelConfig | None = None, allowed: Iterable[Path] = ()) -> ScannedRepository:
    """Every model at a path: at least one version, or something broken.

    `path` is a repository, the folder of one model, or one model file, which becomes version 1 of the model named by
    its stem. A `model.toml` overrides `defaults` key by key. Files that a model names must lie below `path` or below
    one of `allowed`. Reads every file once, in pieces. Raises `RepositoryError` if there is no model at all, and says
    what would be right.
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
    """As `look`, but raises `RepositoryError` if anything is broken, with a line for each broken model."""
    return _whole(look(path, defaults, allowed))


def scan_model(
    path: Path, name: str, defaults: ModelConfig | None = None, allowed: Iterable[Path] = ()
) -> tuple[ModelVersion, ...]:
    """The versions of one model at a path, as `scan` would find them; none if there is no such model.

    Other models may be broken. Raises `RepositoryError` if this one is.
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
    """The names of what seem to be models at a path, in alphabetical order; none if it cannot be read."""
    try:
        return tuple(names_at(path))
    except OSError:
        return ()


class _Scan:
    """One scan of a repository, and what it found so far. Raises `OSError` if the root cannot be read."""

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
        """Scans one entry in the root of a repository."""
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
        """Scans a folder that may be a model's."""
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
            # A model.toml that is a broken link must not be ignored: the model would be served without its settings.
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
        """Takes up a version: a folder named by its number, or a bare file."""
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
