"""Long JSON lists, read a piece at a time: the objects that are made for one piece are freed before the next.

A list's text is cut at commas after which a row seems to begin. Each piece is then read as a list of its own. The
result is right wherever the cuts are: if every piece is JSON, the whole is, and its rows are those of the pieces in
their order. A cut in a wrong place, such as within a string, leaves a piece that is no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sluice.gateway.dialects.formats.body_bounds import SPARE, check_rows
from sluice.gateway.dialects.formats.json_forms import MAX_AXES, shown
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, Shape, Tensor, TensorSpec

PIECES_FROM_BYTES = 1024 * 1024
"""Bodies of this length and more are read in pieces; the memory for shorter ones does not matter."""

PIECE_BYTES = 64 * 1024
LONG_ROW_BYTES = 4 * PIECE_BYTES
"""A longer row is itself read in pieces."""

Read = Callable[[bytes, int], Sequence[Array]]
"""Reads the rows of each input out of the text of a list. The number is 0 for rows of the whole list; for the parts of
one long row it says how many lists deep they are. Raises `InvalidRequest`."""

_OPENING = re.compile(rb"[ \t\r\n]*\[((?:[ \t\r\n]*\[)*)[ \t\r\n]*(\{?)")
_BLANK = b" \t\r\n"


class ListPiece(NamedTuple):
    """A part of a list's text, without brackets around it. A `long` one is a single row, which is itself a list."""

    text: memoryview
    long: bool


def pieces_of(text: memoryview) -> Iterator[ListPiece]:
    """The pieces of a list's text. Raises `InvalidRequest` for a text that is no list, or is nested too deeply."""
    opening = _OPENING.match(text)
    end = _closing(text)
    if opening is None or end < opening.start(1):
        raise InvalidRequest("the body is not valid JSON: a list does not end")
    depth = opening[1].count(b"[")
    if depth >= MAX_AXES:
        raise InvalidRequest(f"lists are nested too deeply; at most {MAX_AXES} axes can be had")
    cut = _cut(depth, in_objects=bool(opening[2]))
    at = opening.start(1)
    ahead = at  # the end of the first row that ends after the piece is full
    while True:
        if ahead < at + PIECE_BYTES:
            found = cut.search(text, at + PIECE_BYTES, end)
            ahead = end if found is None else found.end() - 1
        stop = ahead
        if stop - at > LONG_ROW_BYTES:
            stop = _last_before(cut, text, at, ahead) or stop
        yield ListPiece(text[at:stop], depth > 0 and stop - at > LONG_ROW_BYTES)
        if stop == end:
            return
        at = stop + 1


def _last_before(cut: re.Pattern[bytes], text: memoryview, at: int, ahead: int) -> int | None:
    """The end of the last row between `at` and `ahead`, where the row after it ends; `None` if there is none."""
    last = None
    for found in cut.finditer(text, at, ahead):
        last = found.end() - 1
    return last


def depth_of(text: memoryview) -> int:
    """How deep the first element of a list is: 0 for a list of numbers, 1 for a list of those."""
    opening = _OPENING.match(text)
    return 0 if opening is None else opening[1].count(b"[")


def commas_in(text: memoryview) -> int:
    """The number of commas, in strings, too. A list has at most one element more."""
    step = PIECES_FROM_BYTES
    return sum([bytes(text[at : at + step]).count(b",") for at in range(0, len(text), step)])


def _closing(text: memoryview) -> int:
    """The offset of the closing bracket, after which there is only white space; -1 if there is none."""
    step = 4096
    for end in range(len(text), 0, -step):
        tail = bytes(text[max(0, end - step) : end]).rstrip(_BLANK)
        if tail:
            return max(0, end - step) + len(tail) - 1 if tail.endswith(b"]") else -1
    return -1


@lru_cache(maxsize=2 * MAX_AXES)
def _cut(depth: int, *, in_objects: bool) -> re.Pattern[bytes]:
    """Matches the end of a row and the comma after it, for rows that are lists of this depth, objects, or neither."""
    if depth:
        return re.compile(rb"\](?:[ \t\r\n]*\]){%d}[ \t\r\n]*," % (depth - 1))
    return re.compile(rb"\}[ \t\r\n]*," if in_objects else rb",")


class Gathering:
    """Collects the rows of one or several inputs out of pieces.

    Numbers are written to their final place. It has room for `most` numbers of each input, and grows if there are more;
    the system gives memory only to the part that is written to. Raises `RequestTooLarge` as soon as there are too many
    rows.
    """

    def __init__(self, specs: Sequence[TensorSpec], most: int, max_rows: int | None) -> None:
        self._specs = specs
        self._max_rows = max_rows
        self._flat = [
            None if spec.datatype is Datatype.BYTES else np.empty(most, STORAGE[spec.datatype]) for spec in specs
        ]
        self._strings: list[list[Array]] = [[] for _ in specs]
        self._used = [0] * len(specs)

    def read(self, text: memoryview, read: Read) -> None:
        """Read all rows of a list. Raises as `read` does."""
        self._shapes = self._fill(text, read, 0, self._max_rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs with all rows that were read."""
        return tuple(
            [
                Tensor(spec.name, spec.datatype, self._array(place).reshape(shape))
                for place, (spec, shape) in enumerate(zip(self._specs, self._shapes, strict=True))
            ]
        )

    def _fill(self, text: memoryview, read: Read, level: int, max_rows: int | None) -> list[Shape]:
        rows, own = 0, None
        for piece in pieces_of(text):
            if piece.long:
                shapes = self._fill(piece.text, read, level + 1, None)
                count = 1
            else:
                arrays = read(b"".join((b"[", piece.text, b"]")), level)
                count = len(arrays[0])
                shapes = [array.shape[1:] for array in arrays]
                for place, array in enumerate(arrays):
                    self._put(place, array)
            rows += count
            if max_rows is None and not piece.long and not arrays[0].size:
                check_rows(self._specs[0].name, rows, SPARE)  # rows without elements cost time, too
            check_rows(self._specs[0].name, rows, max_rows)
            if own is not None and own != shapes:
                raise InvalidRequest(
                    f"input {shown(self._specs[0].name)}: rows differ in shape, {shown(own)} and then {shown(shapes)} "
                    f"before row {rows}; all rows must have one shape"
                )
            own = shapes
        return [(rows, *each) for each in own or []]

    def _put(self, place: int, array: Array) -> None:
        flat = self._flat[place]
        begin = self._used[place]
        self._used[place] = end = begin + array.size
        if flat is None:
            self._strings[place].append(array.ravel())
            return
        if end > len(flat):  # the text has values that all rows share only once
            flat = self._flat[place] = np.resize(flat, 2 * end)
        flat[begin:end] = array.ravel()

    def _array(self, place: int) -> Array:
        flat = self._flat[place]
        return np.concatenate(self._strings[place]) if flat is None else flat[: self._used[place]]
