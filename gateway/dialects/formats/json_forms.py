"""How the elements of each datatype are written in JSON, and how a list of them becomes an array."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import numpy as np

from sluice.gateway.dialects.formats import bfloat16
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Array, Datatype, Shape

MAX_AXES = 64
"""The bound of numpy."""

MAX_AXIS = 2**63 - 1

SHOWN_NAMES = 8
"""Names of a caller's that a message lists, at most."""


class ElementForm(msgspec.Struct, frozen=True):
    """How one datatype is written in JSON.

    A parsed element has one of `types`. If it is a number, it is greater than `above` and less than `below`: for floats
    these are the first values that would round to infinity. `noun` says in messages what is expected. `flat` decodes a
    flat list of elements. `code` is the letter of the element's type in `struct`, and `carrier` the letter of the
    64-bit type that simdjson reads it as; both are empty for datatypes without one.
    """

    datatype: Datatype
    dtype: np.dtype[Any]
    noun: str
    element: type[Any]
    types: frozenset[type]
    flat: msgspec.json.Decoder[list[Any]]
    above: int = 0
    below: int = 0
    code: str = ""
    carrier: Literal["", "d", "i", "u"] = ""


def _form(
    datatype: Datatype,
    noun: str,
    element: type[Any],
    *,
    above: int = 0,
    below: int = 0,
    code: str = "",
    carrier: Literal["", "d", "i", "u"] = "",
) -> ElementForm:
    types = frozenset({int, float} if element is float else {element})
    flat: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[element])  # type: ignore[valid-type]  # a type at run time
    return ElementForm(datatype, STORAGE[datatype], noun, element, types, flat, above, below, code, carrier)


def _floats(datatype: Datatype, code: str, beyond: int) -> ElementForm:
    return _form(datatype, "a number", float, above=-beyond, below=beyond, code=code, carrier="d")


def _integers(datatype: Datatype, code: str) -> ElementForm:
    limits = np.iinfo(STORAGE[datatype])
    low, high = int(limits.min), int(limits.max)
    noun = f"a whole number from {low} to {high}, without fraction or exponent"
    return _form(datatype, noun, int, above=low - 1, below=high + 1, code=code, carrier="u" if high >= 2**63 else "i")


FORMS: Mapping[str, ElementForm] = MappingProxyType(
    {
        str(form.datatype): form
        for form in (
            _form(Datatype.BOOL, "true or false", bool),
            _integers(Datatype.UINT8, "B"),
            _integers(Datatype.UINT16, "H"),
            _integers(Datatype.UINT32, "I"),
            _integers(Datatype.UINT64, "Q"),
            _integers(Datatype.INT8, "b"),
            _integers(Datatype.INT16, "h"),
            _integers(Datatype.INT32, "i"),
            _integers(Datatype.INT64, "q"),
            _floats(Datatype.FP16, "e", 65520),
            _floats(Datatype.BF16, "", (2**9 - 1) * 2**119),
            _floats(Datatype.FP32, "f", (2**25 - 1) * 2**103),
            _floats(Datatype.FP64, "d", (2**54 - 1) * 2**970),
            _form(Datatype.BYTES, "a string", str),
        )
    }
)


def form_of(name: str, datatype: str) -> ElementForm:
    """The form of a datatype that a caller named. Raises `InvalidRequest` if there is no such datatype."""
    form = FORMS.get(datatype)
    if form is None:
        raise InvalidRequest(f"input {shown(name)} has datatype {shown(datatype)}; expected one of {', '.join(FORMS)}")
    return form


def element_count(name: str, shape: Shape) -> int:
    """The number of elements of a shape. Raises `InvalidRequest` for a shape that no array can have."""
    if len(shape) > MAX_AXES:
        raise InvalidRequest(f"input {shown(name)} has a shape of {len(shape)} axes; at most {MAX_AXES} can be had")
    count = 1
    for size in shape:
        if not 0 <= size <= MAX_AXIS:
            raise InvalidRequest(
                f"input {shown(name)} has shape {shown(list(shape))}; every axis must be 0 or more, and below 2^63"
            )
        count *= size
    return count


def array_of(form: ElementForm, values: Sequence[Any], shape: Shape) -> Array:
    """The elements, in row-major order, as an array that owns its memory.

    Raises `struct.error` or `OverflowError` if a number does not fit, `ValueError` for a shape that no array can have.
    """
    if form.code:
        return np.ndarray(shape, form.dtype, _packer(form.code, len(values))(*values))
    if form.datatype is Datatype.BOOL:
        return np.ndarray(shape, np.bool_, bytes(values))
    if form.datatype is Datatype.BF16:
        return bfloat16.from_float64(np.array(values, np.float64)).reshape(shape)
    strings = np.empty(len(values), np.object_)
    strings[:] = [value.encode() for value in values]
    return strings.reshape(shape)


@lru_cache(maxsize=256)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"={count}{code}").pack


def shown(value: object) -> str:
    """A value as a message shows it: its `repr`, shortened to about 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def listed(names: Collection[object]) -> str:
    """A caller's names as a message lists them: the first `SHOWN_NAMES`, and the number of the others."""
    texts = [shown(name) for name in islice(names, SHOWN_NAMES)]
    if len(names) > SHOWN_NAMES:
        texts.append(f"and {len(names) - SHOWN_NAMES} more")
    return ", ".join(texts)
