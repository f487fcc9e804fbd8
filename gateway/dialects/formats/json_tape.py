"""Reads large numeric tensors out of JSON text without a Python object per number.

simdjson parses a whole document onto a tape and copies the numbers of an array from there into a buffer. It does so
across any nesting, so the nesting has to be proved here, in one of two ways. If the body states the shape, opening
brackets are counted: the lists that the shape has are found on the tape, and the text has no other brackets. If it does
not, the skeleton of the text is compared with that of a text of the right shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simdjson

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.json_forms import ElementForm
from sluice.inference.types import Array, Datatype, Shape

MIN_ROW_ELEMENTS = 16
"""Shorter rows are left to the typed decoder: checking each of them here would cost more than it saves."""


UNUSUAL = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)
"""What reading from a tape raises for a text that is no JSON, or has anything unusual in it."""

_OF_NUMBERS = b"0123456789.eE+- \t\r\n"


def list_on_tape(element: object) -> simdjson.Array:
    """The element, known to be a list. Raises `ValueError` if it is none."""
    if not isinstance(element, simdjson.Array):
        raise ValueError("not a list")
    return element


def names_on_tape(element: object) -> list[str]:
    """The names of an object's members. Raises `TypeError` if it is no object, and `ValueError` for equal names."""
    if not isinstance(element, simdjson.Object):
        raise TypeError("not an object")
    names = list(element)
    if len(set(names)) != len(names):
        # Other decoders take the last of equal names, the tape the first.
        raise ValueError("a name stands twice")
    return names


def shape_on_tape(element: Any) -> Shape:
    """The shape of nested lists, judged by the first element of each. Raises `IndexError` for an empty list."""
    shape = []
    while isinstance(element, simdjson.Array):
        shape.append(len(element))
        element = element[0]
    return tuple(shape)


def skeleton_of(text: bytes | bytearray) -> bytes:
    """A text without the characters that numbers and white space consist of."""
    return bytes(text.translate(None, _OF_NUMBERS))


def skeleton_of_lists(shape: Shape, item: bytes, longest: int) -> bytes:
    """The skeleton of nested lists of this shape, whose elements have the skeleton `item`: empty for numbers.

    Raises `ValueError` if it would be longer than `longest` bytes: a short text may seem to have any shape.
    """
    for size in reversed(shape):
        if (len(item) + 1) * size >= longest:
            raise ValueError("so many lists cannot stand in this text")
        item = b"[%b]" % b",".join([item] * size)
    return item


def numbers_from_tape(form: ElementForm, shape: Shape, data: simdjson.Array) -> Array:
    """The numbers of a list on the tape, as an array that owns its memory.

    The caller has to prove that the list is flat or nested as the shape is: this only counts the numbers. Raises one of
    `UNUSUAL` if there is anything but numbers of this form, or another number of them.
    """
    if not form.carrier:
        raise TypeError("no numbers")
    buffer = data.as_buffer(of_type=form.carrier)
    wide: Array = np.frombuffer(buffer, {"d": np.float64, "i": np.int64, "u": np.uint64}[form.carrier])
    if form.datatype is Datatype.BF16:
        return bfloat16.from_float64(wide).reshape(shape)
    if wide.dtype == form.dtype:
        return wide.reshape(shape)
    if form.carrier == "d":
        with np.errstate(over="raise"):
            return wide.astype(form.dtype).reshape(shape)
    narrow = wide.astype(form.dtype)
    if not np.array_equal(narrow, wide):
        raise OverflowError("beyond the range of the datatype")
    return narrow.reshape(shape)


def bracket_count(shape: Shape, count: int, data: simdjson.Array) -> int:
    """The number of lists in `data`, itself included, down to the depth of the shape; 1 if it is flat.

    `count` is the product of `shape`. Raises `ValueError` if the list is neither flat nor nested as the shape says, or
    has too many short rows.
    """
    if count == 0 or not isinstance(data[0], simdjson.Array):
        return 1
    brackets = 0
    level = [data]
    for axis, size in enumerate(shape):
        brackets += len(level)
        if brackets * MIN_ROW_ELEMENTS > count:
            raise ValueError("many short rows")
        if any([len(row) != size for row in level]):
            raise ValueError("not nested as the shape says")
        if axis + 1 < len(shape):
            level = [list_on_tape(item) for row in level for item in row]
    return brackets


def has_brackets(text: bytes | bytearray, brackets: int) -> bool:
    """Whether the text has exactly this many `[`, in strings, too. It stops at the first one too many."""
    # `find` compares 32 bytes at a time, `count` one.
    position = -1
    for _ in range(brackets):
        position = text.find(b"[", position + 1)
        if position < 0:
            return False
    return text.find(b"[", position + 1) < 0
