"""The files that an engine loads, as they were when their digest was taken, so that no others are taken for them later.

They are compared by what is in them. How a file lies on disk only saves reading it again: a copy put in its place, a
volume mounted anew, a `..data` link that Kubernetes swaps and a network's file system that numbers its files afresh
all change that, and the version is the same.
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


class Lie(msgspec.Struct, frozen=True):
    """How a file lies on disk: whatever is written to it through the file system changes one of these."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


class FileState(msgspec.Struct, frozen=True):
    """A file, how it lay when it was read, and the sha256 of what was in it, in hexadecimal."""

    file: Path
    lie: Lie
    sha256: str


class Snapshot(msgspec.Struct, frozen=True):
    """The model file, by the path that it was given as, and the files that it names, each as it was when it was read.

    `files` begins with the model file. `apart` are those that the engine would not go and read by itself, since they
    lie outside the model's folder, by the names that the model has for them.
    """

    model_file: Path
    files: tuple[FileState, ...]
    apart: tuple[str, ...] = ()


class Held:
    """Says whether the files of a snapshot are still the same. Threads may share it.

    A file that does not lie as it did is read again, once for each way it comes to lie. `overwritten` is for engines
    that have a file mapped and read on.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._files = snapshot.files
        copied = {snapshot.model_file, *[snapshot.model_file.parent / name for name in snapshot.apart]}
        self._mapped = [state for state in snapshot.files if state.file not in copied]
        self._same = {state.file: state.lie for state in snapshot.files}
        self._other: dict[Path, Lie] = {}
        self._reading = threading.Lock()

    def check(self) -> None:
        """Raises `ModelLoadError`, naming the file, if one of them is not what it was. Blocks while it reads."""
        file = self.changed()
        if file is not None:
            raise ModelLoadError(
                f"{file}: has changed since the version was taken into service, and a version is final; "
                "put changed files into a version of their own, or load the model anew to serve them as this one"
            )

    def changed(self) -> Path | None:
        """The first file that is not what it was; `None` where all of them are. Blocks while it reads."""
        return next((state.file for state in self._files if not self._is_same(state)), None)

    def overwritten(self) -> Path | None:
        """The first file of weights that was written into since: an engine that runs has it mapped, and sees that."""
        for state in self._mapped:
            lie = _lie(state.file)
            in_place = lie is not None and (lie.device, lie.inode) == (state.lie.device, state.lie.inode)
            if in_place and not self._is_same(state):
                return state.file
        return None

    def _is_same(self, state: FileState) -> bool:
        lie = _lie(state.file)
        if lie == self._same[state.file]:
            return True
        if lie is None or lie.size_bytes != state.lie.size_bytes or not state.sha256:
            return False
        with self._reading:
            if lie == self._same[state.file]:
                return True
            if self._other.get(state.file) == lie:
                return False
            try:
                now = read(state.file)
            except OSError:
                return _is_untouched(self._same[state.file], lie)
            if now.sha256 != state.sha256:
                self._other[state.file] = now.lie
                return False
            self._same[state.file] = now.lie
            return True


def read(file: Path) -> FileState:
    """The state of a file, which is read whole, in pieces. Raises `OSError`."""
    with file.open("rb") as content:
        lie = _lie_of(os.fstat(content.fileno()))  # before the content is read, so that a change in between is seen
        return FileState(file, lie, hashlib.file_digest(content, "sha256").hexdigest())


def changed_file(states: Iterable[FileState]) -> Path | None:
    """The first file that holds something else than when it was read; `None` where none does."""
    states = tuple(states)
    return Held(Snapshot(states[0].file, states)).changed() if states else None


def take_snapshot(model_file: Path) -> Snapshot:
    """The state of a model file and of the files that it names, as far as they are there.

    What is no regular file has no content to compare. Raises `OSError` where the model file cannot be read.
    """
    names = engine_of(model_file).external_files(model_file)
    named = [file for name in names if (file := model_file.parent / name).exists()]
    return Snapshot(model_file, tuple([_read_if_regular(file) for file in (model_file, *named)]))


def _read_if_regular(file: Path) -> FileState:
    return read(file) if file.is_file() else FileState(file, _lie_of(os.stat(file)), "")


def _is_untouched(before: Lie, now: Lie) -> bool:
    """Whether nothing was written to a file that may not be read any more: only who may has changed, or its name."""
    return msgspec.structs.replace(before, changed_ns=now.changed_ns) == now


def _lie(file: Path) -> Lie | None:
    try:
        return _lie_of(os.stat(file))
    except (OSError, ValueError):  # the latter for a name that no file can have
        return None


def _lie_of(found: os.stat_result) -> Lie:
    return Lie(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
