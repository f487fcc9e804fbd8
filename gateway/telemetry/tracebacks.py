"""Tracebacks without values: they say where something went wrong, and show no data of callers.

The variables of a frame may hold bodies, and headers with credentials. So they are never shown. Neither is what an
unexpected exception quotes, which is mostly the value that it could not handle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TextIO

from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import ExcInfo

MAX_FRAMES = 50
MAX_TEXT = 500

_QUOTED = re.compile(
    r"""(?P<word>(?<=\w)'(?:t|s|d|re|ve|ll)\b)|[bu]?(?P<quote>['"])(?:\\.|(?!(?P=quote)).)*(?:(?P=quote)|\Z)""",
    re.DOTALL,
)
"""A quotation, to the end of the text if it is not closed; or an apostrophe within a word."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_transform = ExceptionDictTransformer(show_locals=False, max_frames=MAX_FRAMES, use_rich=False)


def unquoted(text: str) -> str:
    """The text of an exception without what it quotes, cut to `MAX_TEXT` characters."""
    bare = _QUOTED.sub(lambda found: found["word"] or "'…'", text)
    return bare if len(bare) <= MAX_TEXT else bare[:MAX_TEXT] + "…"


def escaped(text: str) -> str:
    """A text on one line, with control characters escaped: nothing in it commands a terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def traceback_facts(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """An exception and its causes, as structlog renders them for JSON."""
    return _bare(_transform(exc_info))


def write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Write an exception and its causes for people: causes first, each with its frames."""
    for fact in reversed(traceback_facts(exc_info)):
        _write(stream, fact, "")


def _bare(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **fact,
            "exc_value": unquoted(fact["exc_value"]),
            "exc_notes": [unquoted(note) for note in fact["exc_notes"]],
            "syntax_error": None,
            "exceptions": [_bare(inner) for inner in fact["exceptions"]],
        }
        for fact in facts
    ]


def _write(stream: TextIO, fact: dict[str, Any], margin: str) -> None:
    stream.write(f"\n{margin}{fact['exc_type']}: {escaped(fact['exc_value'])}")
    stream.writelines(f"\n{margin}  {escaped(note)}" for note in fact["exc_notes"])
    stream.writelines(
        f"\n{margin}  at {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in fact["frames"][::-1]
    )
    for inner in fact["exceptions"]:
        for each in reversed(inner):
            _write(stream, each, margin + "  | ")
