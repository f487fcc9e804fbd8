"""Answers made in steps, so that a long one need not keep everybody else waiting.

Whoever makes one is a generator that stops after each step, of about a millisecond, and returns what it made.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import TypeVar

from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Array

STEP_ELEMENTS = 16_384
"""Elements that are put into words in one step, at most; an element of strings may be of any length."""

MOST_TEXT_BYTES = 512 * 1024 * 1024
"""The longest answer. The tensors in it are bounded by `server.max_answer_bytes`, but words may be long."""

T = TypeVar("T")


def at_once(steps: Generator[None, None, T]) -> T:
    """What a generator makes, without stops."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made


def rows_at_a_time(rows: int, width: int) -> Iterator[slice]:
    """All rows, as many in each slice as one step may have of `width` elements, but at least one."""
    step = max(1, STEP_ELEMENTS // max(1, width))
    for begin in range(0, rows, step):
        yield slice(begin, min(rows, begin + step))


def effort(array: Array) -> int:
    """How many elements it is as much work as; lists without elements are some, too."""
    return math.prod([max(1, size) for size in array.shape])


class Text:
    """An answer's text, as it grows. Raises `RequestTooLarge` when it grows too long."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        """What comes next."""
        self._pieces.append(piece)
        self.weigh(len(piece))

    def weigh(self, size_bytes: int) -> None:
        """What is kept elsewhere, and comes into it later."""
        self.size_bytes += size_bytes
        if self.size_bytes > MOST_TEXT_BYTES:
            raise RequestTooLarge(
                f"the answer would be longer than {MOST_TEXT_BYTES} bytes; ask for fewer rows, or for binary outputs"
            )

    def joined(self, separator: bytes = b"") -> bytes:
        """The whole text."""
        return separator.join(self._pieces)
