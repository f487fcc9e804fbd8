"""The state of a version's files on disk, so that no other files are taken for them later."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from inference.backends.onnx.model_file import external_files
from inference.errors import ModelLoadError


class FileState(msgspec.Struct, frozen=True):
    """What changes with a file's content. All numbers are zero where there is no such file."""

    file: Path
    inode: int
    size_bytes: int
    modified_ns: int


class Snapshot(msgspec.Struct, frozen=True):
    """The model file, with links resolved, and the files that it refers to, as they were at one moment.

    Sees every change that is written through the file system, but for one that keeps a file's inode and size and sets
    its time of modification back. Does not see into a file that an engine has mapped: replace files, and do not
    write into them.
    """

    model_file: Path
    files: tuple[FileState, ...]

    def hold(self) -> None:
        """Raises `ModelLoadError`, naming the file, if one of them is not as it was."""
        file = self.changed()
        if file is not None:
            raise ModelLoadError(
                f"{file}: has changed since the version was taken into service, and a version is final; "
                "put changed files into a version of their own, or load the model anew to serve them as this one"
            )

    def changed(self) -> Path | None:
        """The first file that is not as it was; `None` where all of them are."""
        return next((state.file for state in self.files if _state(state.file) != state), None)


def take_snapshot(model_file: Path) -> Snapshot:
    """The state of the files now. Raises `OSError` where the model file cannot be read."""
    resolved = model_file.resolve()
    state = _state(resolved)  # before the content is read, so that a change in between is seen later
    beside = [_state(resolved.parent / name) for name in external_files(resolved)]
    return Snapshot(resolved, (state, *beside))


def _state(file: Path) -> FileState:
    try:
        found = os.stat(file)
    except (OSError, ValueError):  # the latter for a name that no file can have
        return FileState(file, 0, 0, 0)
    return FileState(file, found.st_ino, found.st_size, found.st_mtime_ns)
