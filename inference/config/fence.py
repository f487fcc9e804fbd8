"""Checks that the files named by a model lie with the model, and nowhere else.

A name in a `model.toml`, or a link in a model's folder, could lead to any file of the machine, whose content would then
appear in answers and messages. So the real path of a file is checked before anything is read.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sluice.inference.errors import RepositoryError

_KERNEL = ("/proc", "/sys")


class Fence(msgspec.Struct, frozen=True):
    """Where the files that a model names may lie: below the repository's root, or below a path that is allowed."""

    root: Path
    allowed: tuple[Path, ...] = ()

    def holds(self, path: str, *, resolved: bool) -> bool:
        """Whether an absolute path is at or below one of the places, with links resolved in both or in neither."""
        made = os.path.realpath if resolved else os.path.abspath
        return any(is_below(path, made(place)) for place in (self.root, *self.allowed))

    def check(self, file: Path, beside: Path, most_bytes: int) -> None:
        """Raises `RepositoryError` unless an existing file lies with the model, and is no longer than `most_bytes`.

        A file also lies with the model if its real folder is that of the file `beside`: both may be links into a store
        of contents.
        """
        real = os.path.realpath(file)
        if not (self.holds(real, resolved=True) or os.path.dirname(real) == os.path.dirname(os.path.realpath(beside))):
            raise RepositoryError(
                f"{file}: leads to {real}, outside of {self.root}; put the file itself there, or name its folder in "
                "models.allow"
            )
        found = os.stat(file)
        if found.st_dev in kernel_devices():
            raise RepositoryError(f"{file}: is the kernel's; put a file there")
        if found.st_size > most_bytes:
            raise RepositoryError(f"{file}: has {found.st_size} bytes; at most {most_bytes} are read")


def plain_name(name: str) -> bool:
    """Whether a name is a relative path without `..`, and so one of a file below a folder."""
    return bool(name) and "\0" not in name and not os.path.isabs(name) and ".." not in name.split("/")


def is_below(path: str, place: str) -> bool:
    """Whether a path is a place, or below it."""
    return path == place or path.startswith(place.rstrip("/") + "/")


def kernel_devices() -> frozenset[int]:
    """The devices of file systems whose content the kernel makes when it is read."""
    return frozenset([os.stat(place).st_dev for place in _KERNEL if os.path.isdir(place)])
