"""Arrays of numbers as JSON text."""

from __future__ import annotations

from itertools import chain

import numpy as np
import orjson

from sluice.inference.types import Array


def numbers_json(array: Array) -> bytes:
    """A contiguous array of numbers or booleans as lists, nested as its shape is.

    JSON has no numbers that are not finite: those become `NaN`, `Infinity` and `-Infinity`.
    """
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return with_non_finite(text, array) if b"null" in text else text


def with_non_finite(text: bytes, array: Array) -> bytes:
    """Orjson's text of an array, with `NaN`, `Infinity` or `-Infinity` in the place of each `null`."""
    odd: list[float] = array[~np.isfinite(array)].tolist()
    tokens = [b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity" for value in odd]
    return b"".join(chain.from_iterable(zip(text.split(b"null"), [*tokens, b""], strict=True)))
