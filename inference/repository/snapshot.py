"""The files that an engine loads, as they were when their digest was taken, so that changed ones are noticed.

Files are compared by their content. Their state on disk (inode, size, times) only saves reading them again: it also
changes when a copy is put in a file's place, a volume is mounted again, Kubernetes swaps its `..data` link, or a
network file system gives files new numbers, and the version is still the same.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sluice.inference.backends.registry import engine_of
from sluice.inference.errors import ModelLoadError


class DiskState(msgspec.Struct, frozen=True):
    """The state of a file on disk. Every write through the file system changes one of these values."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


class FileState(msgspec.Struct, frozen=True):
    """A file, its state on disk when it was read, and the sha256 of its content, in hexadecimal."""

    file: Path
    disk: DiskState
    sha256: str


class Snapshot(msgspec.Struct, frozen=True):
    """The model file, by the path that was given, and the files that it names, each as it was when it was read.

    `files` begins with the model file. `apart` are the files outside the model's folder, which the engine would not
    read by itself, by the model's names for them.
    """

    model_file: Path
    files: tuple[FileState, ...]
    apart: tuple[str, ...] = ()


class SnapshotCheck:
    """Tells whether the files of a snapshot are still the same. Threads may share it.

    A file whose state on disk has changed is read again, once for each new state. `overwritten` is for engines that map
    a file and go on reading it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._files = snapshot.files
        copied = {snapshot.model_file, *[snapshot.model_file.parent / name for name in snapshot.apart]}
        self._mapped = [state for state in snapshot.files if state.file not in copied]
        self._same = {state.file: state.disk for state in snapshot.files}
        self._other: dict[Path, DiskState] = {}
        self._reading = threading.Lock()

    def check(self) -> None:
        """Raises `ModelLoadError`, naming the file, if the content of one has changed. Blocks while it reads."""
        file = self.changed()
        if file is not None:
            raise ModelLoadError(
                f"{file}: has changed since the version was taken into service, and a version is final; "
                "put changed files into a version of their own, or load the model anew to serve them as this one"
            )

    def changed(self) -> Path | None:
        """The first file whose content has changed; `None` if none has. Blocks while it reads."""
        return next((state.file for state in self._files if not self._is_same(state)), None)

    def overwritten(self) -> Path | None:
        """The first file of weights that was written into; `None` if none was.

        An engine that has such a file mapped already computes with the new content. Blocks while it reads.
        """
        for state in self._mapped:
            disk = _state_at(state.file)
            in_place = disk is not None and (disk.device, disk.inode) == (state.disk.device, state.disk.inode)
            if in_place and not self._is_same(state):
                return state.file
        return None

    def _is_same(self, state: FileState) -> bool:
        disk = _state_at(state.file)
        if disk == self._same[state.file]:
            return True
        if disk is None or disk.size_bytes != state.disk.size_bytes or not state.sha256:
            return False
        with self._reading:
            if disk == self._same[state.file]:
                return True
            if self._other.get(state.file) == disk:
                return False
            try:
                now = read(state.file)
            except OSError:
                return _is_untouched(self._same[state.file], disk)
            if now.sha256 != state.sha256:
                self._other[state.file] = now.disk
                return False
            self._same[state.file] = now.disk
            return True


def read(file: Path) -> FileState:
    """The state of a file, which is read whole, in pieces. Raises `OSError`."""
    with file.open("rb") as content:
        disk = _state_of(os.fstat(content.fileno()))  # before the content is read, so that a change in between is seen
        return FileState(file, disk, hashlib.file_digest(content, "sha256").hexdigest())


def changed_file(states: Iterable[FileState]) -> Path | None:
    """The first file whose content has changed since it was read; `None` if none has."""
    states = tuple(states)
    return SnapshotCheck(Snapshot(states[0].file, states)).changed() if states else None


def take_snapshot(model_file: Path) -> Snapshot:
    """The state of a model file and of those files that it names and that exist.

    The content of pipes and devices is not compared. Raises `OSError` if the model file cannot be read.
    """
    names = engine_of(model_file).external_files(model_file)
    named = [file for name in names if (file := model_file.parent / name).exists()]
    return Snapshot(model_file, tuple([_read_if_regular(file) for file in (model_file, *named)]))


def _read_if_regular(file: Path) -> FileState:
    return read(file) if file.is_file() else FileState(file, _state_of(os.stat(file)), "")


def _is_untouched(before: DiskState, now: DiskState) -> bool:
    """Whether nothing was written to a file that cannot be read any more: only its permissions or its name changed."""
    return msgspec.structs.replace(before, changed_ns=now.changed_ns) == now


def _state_at(file: Path) -> DiskState | None:
    try:
        return _state_of(os.stat(file))
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def _state_of(found: os.stat_result) -> DiskState:
    return DiskState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
