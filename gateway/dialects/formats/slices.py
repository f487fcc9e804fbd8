"""Answers made in steps, so that a long one does not block the event loop.

A function that makes a part of an answer is a generator. It yields after each step of about a millisecond and returns
the part.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import TypeVar

from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Array

STEP_ELEMENTS = 16_384
"""Elements that are written in one step, at most. A string among them may have any length."""

MOST_TEXT_BYTES = 512 * 1024 * 1024
"""The longest answer. `server.max_answer_bytes` bounds its tensors, but their text may be longer."""

T = TypeVar("T")


def at_once(steps: Generator[None, None, T]) -> T:
    """What a generator returns, run to its end without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made


def rows_at_a_time(rows: int, width: int) -> Iterator[slice]:
    """Slices of all rows. Each has as many rows of `width` elements as one step may write, but at least one."""
    step = max(1, STEP_ELEMENTS // max(1, width))
    for begin in range(0, rows, step):
        yield slice(begin, min(rows, begin + step))


def effort(array: Array) -> int:
    """The work of writing an array, in elements: an empty list counts as one."""
    return math.prod([max(1, size) for size in array.shape])


class Text:
    """An answer's text as it grows. It raises `RequestTooLarge` beyond `MOST_TEXT_BYTES`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self.weigh(len(piece))

    def weigh(self, size_bytes: int) -> None:
        """Count bytes that will be added later."""
        self.size_bytes += size_bytes
        if self.size_bytes > MOST_TEXT_BYTES:
            raise RequestTooLarge(
                f"the answer would be longer than {MOST_TEXT_BYTES} bytes; ask for fewer rows, or for binary outputs"
            )

    def joined(self, separator: bytes = b"") -> bytes:
        """The whole text."""
        return separator.join(self._pieces)
