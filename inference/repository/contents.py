"""The files on which a version's answers depend, and their digest.

These are all files in the version's folder, including hidden ones and those behind links; all files that the model
names, wherever they lie; and the tokenizer and the class names that lie beside `model.toml`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from sluice.inference.backends.registry import engine_of
from sluice.inference.config.fence import Fence, is_below, kernel_devices
from sluice.inference.config.model_config import GIB, MIB, ModelConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.repository.snapshot import FileState, Snapshot, changed_file, read

MAX_ENTRIES = 10_000
"""The most files and folders in one version's folder, including those behind links."""

MAX_BYTES = 256 * GIB
"""The most that is read for one version. If there is more, a link probably leads to something that is not the model."""

KUBERNETES = ".."
"""The beginning of the names of the folders in which Kubernetes puts a volume's files; the visible names are links into
them. These names change with every write to the volume, even if the files stay the same."""

MOST_TOKENIZER_BYTES = 256 * MIB


class Contents(msgspec.Struct, frozen=True):
    """The files that the engine loads, the tokenizer, if there is one, and the digest of all files of the version.

    `passed_over` has a line for each thing in the folder that is not part of the digest, and why.
    """

    engine: Snapshot
    tokenizer: FileState | None
    digest: str
    passed_over: tuple[str, ...] = ()


def contents(model_file: Path, config: ModelConfig, fence: Fence, folder: Path | None) -> Contents:
    """What a version consists of. `folder` is the version's own; `None` for a bare file, which has no tokenizer.

    Raises `RepositoryError` for files that are missing, lie outside the fence or change while they are read, and for a
    folder beyond the bounds; `OSError` if a file that the engine needs cannot be read.
    """
    named = {name: _named(model_file, name, fence) for name in engine_of(model_file).external_files(model_file)}
    needed = {model_file.name: model_file} | {os.path.normpath(name): file for name, file in named.items()}
    passed_over: list[str] = []
    files = {} if folder is None else dict(_files_below(folder, passed_over))
    _check_size([*(files | needed).values()], folder or model_file)
    states = {name: read(file) for name, file in needed.items()}
    states |= _readable({name: file for name, file in files.items() if name not in needed}, passed_over)
    tokenizer_at = None if folder is None else tokenizer_file(folder, config)
    if tokenizer_at is not None and tokenizer_at.exists():
        if not tokenizer_at.is_file():
            raise RepositoryError(f"{tokenizer_at}: is no file; put the tokenizer there")
        Fence(tokenizer_at.parent, (fence.root, *fence.allowed)).check(tokenizer_at, model_file, MOST_TOKENIZER_BYTES)
    tokenizer = None if tokenizer_at is None else read(tokenizer_at)
    changed = changed_file([*states.values(), *([] if tokenizer is None else [tokenizer])])
    if changed is not None:
        raise RepositoryError(f"{changed}: has changed while it was read; put new files into a version of their own")
    engine = [states[name] for name in needed]
    apart = tuple([name for name in named if _is_apart(model_file, name)])
    digest = _digest(states, tokenizer, config.labels)
    return Contents(Snapshot(model_file, tuple(engine), apart), tokenizer, digest, tuple(passed_over))


def tokenizer_file(folder: Path, config: ModelConfig) -> Path | None:
    """A version's tokenizer file: in the version's folder, or else beside `model.toml`; `None` if there is none."""
    if config.text is None:
        return None
    places = (folder / config.text.tokenizer, folder.parent / config.text.tokenizer)
    return next((file for file in places if file.is_file() or file.is_symlink()), None)


def _named(model_file: Path, name: str, fence: Fence) -> Path:
    """A file that the model names. Raises `RepositoryError` if it does not exist or lies outside the fence."""
    file = model_file.parent / name
    says = f"{model_file}: its weights are to be in {name!r}"
    if "\0" in name or not name:
        raise RepositoryError(f"{says}, which is no file's name; export it with weights in a file beside it")
    lexical, real = os.path.abspath(file), os.path.realpath(file)
    beside = os.path.dirname(os.path.realpath(model_file))
    inside = fence.holds(lexical, resolved=False) and real == os.path.realpath(lexical)
    if not inside or not (fence.holds(real, resolved=True) or is_below(real, beside)):
        raise RepositoryError(
            f"{says}, which is {real}, outside of {fence.root}; put that file into the version's folder, or name it or "
            "its folder in the setting models.allow"
        )
    if not file.exists():
        raise RepositoryError(f"{says}, but there is no {file}; put that file there, too")
    if not file.is_file():
        raise RepositoryError(f"{says}, but {file} is no file; put a file there")
    return file


def _is_apart(model_file: Path, name: str) -> bool:
    """Whether the engine would refuse to read a file by itself: it reads files below the model's own folder only."""
    file = model_file.parent / name
    real = os.path.realpath(file)
    if not os.path.exists(real) or not os.path.samefile(real, file):
        return True  # a link under /proc/PID/root leads elsewhere than its text says, and the engine goes by the text
    folders = (os.path.realpath(model_file.parent), os.path.dirname(os.path.realpath(model_file)))
    return os.path.isabs(name) or not any(is_below(real, folder) for folder in folders)


def _files_below(folder: Path, passed_over: list[str]) -> Iterator[tuple[str, Path]]:
    """The files in a folder and in all folders below it, by relative name. Follows links, but never in a circle."""
    left = MAX_ENTRIES
    kernels = kernel_devices()
    pending: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while pending:
        parent, way = pending.pop()
        try:
            found = os.stat(parent)
            place = (found.st_dev, found.st_ino)
            if place in way:
                passed_over.append(f"{parent}: leads back to a folder that it lies in")
                continue
            if found.st_dev in kernels:
                passed_over.append(f"{parent}: is the kernel's, and no part of the version")
                continue
            names = _names_in(parent, left)
            folders = {name for name in names if (parent / name).is_dir()}
        except PermissionError:
            passed_over.append(f"{parent}: cannot be looked into, and is no part of the version")
            continue
        left -= len(names)
        if left < 0:
            raise RepositoryError(
                f"{folder}: holds more than {MAX_ENTRIES} files and folders, with those behind links; a version's "
                "folder is for the model and what belongs to it"
            )
        pending += [(parent / name, (*way, place)) for name in sorted(folders)]
        for name in names:
            file = parent / name
            if name not in folders and file.is_file() and file.stat().st_dev not in kernels:
                yield file.relative_to(folder).as_posix(), file


def _names_in(folder: Path, at_most: int) -> list[str]:
    """The names in a folder, sorted; if there are more than `at_most`, one more than that."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, at_most + 1)]
    return sorted(name for name in names if not name.startswith(KUBERNETES))


def _readable(files: Mapping[str, Path], passed_over: list[str]) -> Mapping[str, FileState]:
    """The states of those files that can be read; the engine needs none of them."""
    states: dict[str, FileState] = {}
    for name, file in files.items():
        try:
            states[name] = read(file)
        except PermissionError:
            passed_over.append(f"{file}: cannot be read, and is no part of the version")
    return states


def _check_size(files: Sequence[Path], of: Path) -> None:
    size_bytes = sum([file.stat().st_size for file in files])
    if size_bytes > MAX_BYTES:
        raise RepositoryError(
            f"{of}: holds {size_bytes / GIB:.0f} GiB, with what is behind links; one version may hold "
            f"{MAX_BYTES // GIB} GiB, so take out what does not belong to the model"
        )


def _digest(
    files: Mapping[str, FileState], tokenizer: FileState | None, labels: Mapping[str, tuple[str, ...] | str]
) -> str:
    """The digest of each file's name and content, then of what lies beside `model.toml`."""
    whole = hashlib.sha256()
    for name, state in sorted(files.items()):
        # Names contain no zero byte, and digests have a fixed length: so no two sets of files give the same bytes here.
        whole.update(os.fsencode(name) + b"\0" + bytes.fromhex(state.sha256))
    # No file has an empty name, so what follows cannot be taken for a file.
    if tokenizer is not None:
        whole.update(b"\0tokenizer\0" + bytes.fromhex(tokenizer.sha256))
    if labels:
        whole.update(b"\0labels\0" + msgspec.json.encode(sorted(labels.items())))
    return whole.hexdigest()
