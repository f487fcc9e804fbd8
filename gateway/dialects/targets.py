"""Model and version as targets and messages name them."""

from __future__ import annotations

from sluice.inference.errors import VersionNotFound

MAX_DIGITS = 18
"""Digits of a version, at most: so it fits 64 bits, and longer texts are not converted."""


def version_number(text: str) -> int | None:
    """The version that a text names: ASCII digits, `MAX_DIGITS` at most. `None` for any other text."""
    # int() alone would also take digits of other scripts, signs, blanks and underscores.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def version_of(model: str, text: str) -> int:
    """The version of a model that a target names. Raises `VersionNotFound` where the text is no such number."""
    number = version_number(text)
    if number is None:
        raise no_such_version(model, text)
    return number


def no_such_version(model: str, text: str) -> VersionNotFound:
    """The refusal of a version that is no number."""
    return VersionNotFound(f"model {quoted(model)} has no version {quoted(text)}; versions are whole numbers")


def quoted(name: str) -> str:
    """A part of a target as a message shows it: 80 characters at most."""
    return repr(name[:80])
