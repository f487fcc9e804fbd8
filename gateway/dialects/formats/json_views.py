"""Members of long JSON objects as views of their text, which is neither parsed nor copied."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.inference.errors import InvalidRequest

_WORDS = ((b"NaN", b"0.0"), (b"Infinity", b"0.000000"))
"""Numbers that JSON does not have, and some of the same length that replace them while members are searched."""


LIST, OBJECT = ord("["), ord("{")
_OBJECT_FIRST = re.compile(rb"\[[ \t\r\n]*\{")
_B64_FIRST = re.compile(rb'(?:\[[ \t\r\n]*)?\{[ \t\r\n]*"b64"[ \t\r\n]*:[ \t\r\n]*"[^"]*"[ \t\r\n]*\}')


def members_of(text: memoryview, names: tuple[str, ...], *, exactly: bool = False) -> dict[str, memoryview]:
    """The text of each of the named members that an object has. Of members with equal names the last one counts.

    Numbers may be `NaN`, `Infinity` and `-Infinity`. Raises `InvalidRequest` for a text that is no JSON object, and, if
    `exactly` these members are wanted, for missing and for other ones. Raises `NotJson` if two of the names are equal
    once numbers replace those words.
    """
    plain, sought = text, names
    for word, number in _WORDS:
        if _holds(text, word):
            plain = memoryview(bytes(plain).replace(word, number))
            sought = tuple([each.replace(word.decode(), number.decode()) for each in sought])
    if len(set(sought)) < len(names):
        raise NotJson("the body has names that look alike once numbers stand for NaN and Infinity")
    try:
        found = _decoder(sought, exactly).decode(plain)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body is not as expected: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    views = {}
    for name, field in zip(names, found.__struct_fields__, strict=True):
        raw = getattr(found, field)
        if raw is not msgspec.UNSET:
            begin = _address(raw) - _address(plain)
            views[name] = text[begin : begin + len(memoryview(raw))]
    if exactly and len(views) < len(names):
        missing = next(name for name in names if name not in views)
        raise InvalidRequest(f"the body has no {shown(missing)}")
    return views


def is_list(text: memoryview) -> bool:
    """Whether a value is a list."""
    return len(text) > 0 and text[0] == LIST


def is_object(text: memoryview) -> bool:
    """Whether a value is an object."""
    return len(text) > 0 and text[0] == OBJECT


def begins_with_object(text: memoryview) -> bool:
    """Whether the first element of a list is an object."""
    return _OBJECT_FIRST.match(text) is not None


def begins_with_b64(text: memoryview) -> bool:
    """Whether a value, or the first element of a list, seems to be `{"b64": "…"}`."""
    return _B64_FIRST.match(text) is not None


def names_a_datatype(text: memoryview) -> bool:
    """Whether a list has only objects, and the first one has a `datatype`."""
    try:
        found: list[Any] = _TYPED.decode(text)
    except (ValueError, RecursionError):
        return False
    return bool(found) and found[0].datatype is not msgspec.UNSET


class _Typed(msgspec.Struct):
    datatype: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_TYPED = msgspec.json.Decoder(list[_Typed])


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...], exactly: bool) -> msgspec.json.Decoder[Any]:
    fields: list[Any] = [
        (f"member{place}", msgspec.Raw | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=name))
        for place, name in enumerate(names)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Members", fields, forbid_unknown_fields=exactly))


def _holds(text: memoryview, word: bytes) -> bool:
    step = 1024 * 1024
    return any(word in bytes(text[at : at + step + len(word)]) for at in range(0, len(text), step))


def _address(buffer: Any) -> int:
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address
