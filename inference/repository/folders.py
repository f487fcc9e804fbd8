"""What the files and folders of a model repository are, by their names, and messages for what is wrong with them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sluice.inference.backends.registry import ENGINES
from sluice.inference.errors import RepositoryError

MODEL_FILE = ENGINES[0].model_file
"""The usual name of a version's model file: hints name it."""

A_MODEL_FILE = " or ".join([f"a {Path(each.model_file).suffix} file" for each in ENGINES])
"""The kinds of model files, as a phrase."""

VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def is_name(name: str) -> bool:
    """Whether a model may have this name."""
    return _NAME.fullmatch(name) is not None


def names_at(path: Path) -> list[str]:
    """The names of the models that seem to lie at a path, in alphabetical order. Raises `OSError`."""
    if not path.is_dir():
        return [path.stem]
    if not is_repository(path):
        return [path.resolve().name]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    return [entry.name for entry in entries if entry.is_dir() and is_name(entry.name)]


def is_repository(path: Path) -> bool:
    """Whether a path is a folder of models, and not one model. Raises `OSError`."""
    return path.is_dir() and not any(VERSION.fullmatch(each.name) and _has_model(each) for each in path.iterdir())


def is_misplaced(folder: Path) -> bool:
    """Whether a folder beside the versions seems to be one, but for its name."""
    return not folder.name.startswith(".") and (_NUMBER.fullmatch(folder.name) is not None or _has_model(folder))


def is_folder(entry: Path) -> bool:
    """Whether an entry is a folder; false where that may not be seen."""
    try:
        return entry.is_dir()
    except PermissionError:
        return False


def model_file_in(folder: Path) -> Path:
    """The model file of a version in its folder. Raises `RepositoryError` if there is none, and `OSError`."""
    file = _found_in(folder)
    if file is not None:
        return file
    if folder.is_symlink() and not folder.exists():
        raise RepositoryError(link_to_nothing(folder))
    raise RepositoryError(
        f"{folder}: has no {MODEL_FILE}; the model of version {folder.name} must be {folder / MODEL_FILE}"
    )


def misnamed(path: Path, name: str) -> str:
    """What is wrong with a model's name."""
    return (
        f"{path}: {name!r} cannot be a model's name; rename it to 1 to 128 of the characters A-Z a-z 0-9 . _ -, "
        "the first of which is not a dot"
    )


def link_to_nothing(link: Path) -> str:
    """What is wrong with a link whose target does not exist."""
    return f"{link}: links to {os.readlink(link)}, where there is nothing; put it there, or take the link away"


def unreadable(path: Path, error: OSError) -> str:
    """What is wrong with a file that cannot be read, by the error's own file name if it has one."""
    return f"{error.filename or path}: cannot be read: {error.strerror}"


def printable(text: str) -> str:
    """The text as UTF-8, with a replacement character for each byte of a file's name that is not."""
    return os.fsencode(text).decode(errors="replace")


def _has_model(folder: Path) -> bool:
    try:
        return _found_in(folder) is not None
    except PermissionError:
        return False


def _found_in(folder: Path) -> Path | None:
    """The file of the first engine that has one here."""
    files = [folder / each.model_file for each in ENGINES]
    return next((file for file in files if file.is_file()), None)
