"""What a version's answers depend on: the files that loading it reads, and their digest.

That is whatever lies in the version's folder, behind links and under hidden names too; whatever the graph names,
wherever it lies; and the tokenizer and the names of classes that stand beside `model.toml`.
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
"""Files and folders in one version's folder, at most, with those behind its links."""

MAX_BYTES = 256 * GIB
"""What one version reads, at most: beyond that, a link leads to what is nobody's model."""

KUBERNETES = ".."
"""What the names begin with under which Kubernetes mounts a volume's files before it links to them; it changes them
with every write to the volume, though the files may be the same."""

MOST_TOKENIZER_BYTES = 256 * MIB


class Contents(msgspec.Struct, frozen=True):
    """The files that the engine loads, the tokenizer, if there is one, and the digest of all that loading reads.

    `passed_over` says, in a line each, what of the folder is not in the digest, since nobody can read it.
    """

    engine: Snapshot
    tokenizer: FileState | None
    digest: str
    passed_over: tuple[str, ...] = ()


def contents(model_file: Path, config: ModelConfig, fence: Fence, folder: Path | None) -> Contents:
    """What a version consists of. `folder` is its own; a bare file has none, and so no tokenizer either.

    Raises `RepositoryError` for files that are missing, lie outside the fence or change meanwhile, and for a folder
    beyond the bounds, and `OSError` where what the engine needs cannot be read.
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
    """Where a version's tokenizer lies: in its folder, or else beside `model.toml`; `None` where it has none there."""
    if config.text is None:
        return None
    places = (folder / config.text.tokenizer, folder.parent / config.text.tokenizer)
    return next((file for file in places if file.is_file() or file.is_symlink()), None)


def _named(model_file: Path, name: str, fence: Fence) -> Path:
    """A file that the graph names. Raises `RepositoryError` where there is none, or it is none of the repository's."""
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
    """Whether the engine would refuse to go and read a file: it does, unless it lies below the model's own folder."""
    file = model_file.parent / name
    real = os.path.realpath(file)
    if not os.path.exists(real) or not os.path.samefile(real, file):
        return True  # behind /proc/PID/root links lead elsewhere than they say, and the engine believes them
    folders = (os.path.realpath(model_file.parent), os.path.dirname(os.path.realpath(model_file)))
    return os.path.isabs(name) or not any(is_below(real, folder) for folder in folders)


def _files_below(folder: Path, passed_over: list[str]) -> Iterator[tuple[str, Path]]:
    """The files of a folder and all folders in it, by their names from there. Links are followed, but in no circle."""
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
    """What a folder holds, in order; one name too many where there are more than `at_most`."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, at_most + 1)]
    return sorted(name for name in names if not name.startswith(KUBERNETES))


def _readable(files: Mapping[str, Path], passed_over: list[str]) -> Mapping[str, FileState]:
    """The states of files that the engine does not need, as far as they can be read."""
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
    """Over each file's name and the digest of its content, then over what lies beside `model.toml`."""
    whole = hashlib.sha256()
    for name, state in sorted(files.items()):
        # The fixed length of a digest, and the zero that no name contains, keep one file's end from being read
        # as the next one's beginning.
        whole.update(os.fsencode(name) + b"\0" + bytes.fromhex(state.sha256))
    # No file's name is empty, so that nothing of the following can be taken for a file.
    if tokenizer is not None:
        whole.update(b"\0tokenizer\0" + bytes.fromhex(tokenizer.sha256))
    if labels:
        whole.update(b"\0labels\0" + msgspec.json.encode(sorted(labels.items())))
    return whole.hexdigest()
