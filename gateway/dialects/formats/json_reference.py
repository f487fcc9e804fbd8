"""The slow reader of JSON tensors: exact in every case, and able to say what is wrong, where, and what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from sluice.gateway.dialects.formats.json_forms import ElementForm, element_count, shown
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Shape


class NotJson(InvalidRequest):
    """A text is not JSON."""


class Token(msgspec.Struct, frozen=True):
    """The text of a number that has no finite value in Python, such as `1e400` or `NaN`."""

    text: str


def _float(text: str) -> float | Token:
    value = float(text)
    return value if math.isfinite(value) else Token(text)


_DECODER = msgspec.json.Decoder(float_hook=_float)
_LENGTH = msgspec.json.Decoder(list[msgspec.Raw])


def elements_of(name: str, form: ElementForm, shape: Shape, text: msgspec.Raw | bytes) -> list[Any]:
    """The elements in a JSON text, flat. All of them fit the datatype. Raises `InvalidRequest`."""
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise InvalidRequest(f"input {shown(name)}: data is nested too deeply; {_layout(shape)}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {shown(name)}: data has a string that is not UTF-8 ({error.reason})") from None
    except ValueError as error:
        # The text has passed as JSON before, so only integers of thousands of digits get here.
        raise InvalidRequest(f"input {shown(name)}: data{_place(str(error))}") from None
    return checked_elements(name, form, shape, value)


def length_of(name: str, text: bytes) -> int:
    """The length of a list. Raises `NotJson` for a text that is none."""
    try:
        return len(_LENGTH.decode(text))
    except RecursionError:
        raise InvalidRequest(f"input {shown(name)}: data is nested too deeply") from None
    except ValueError as error:
        raise NotJson(f"input {shown(name)}: data is no list: {error}") from None


def checked_elements(name: str, form: ElementForm, shape: Shape, value: Any) -> list[Any]:
    """As `elements_of`, of a parsed value, in which a number without a finite value is a `Token`."""
    count = element_count(name, shape)
    out: list[Any] = []
    try:
        if isinstance(value, list) and not (len(shape) > 1 and any([isinstance(item, list) for item in value])):
            _append(form, value, "data", out)
            if len(value) != count:
                raise _Fault("data", f"has {_elements(len(value))}", _layout(shape))
        else:
            _walk(form, shape, value, "data", out)
    except _Fault as fault:
        raise InvalidRequest(f"input {shown(name)}: {fault}") from None
    return [float(element) for element in out] if form.element is float else out


class _Fault(Exception):
    def __init__(self, place: str, what: str, expected: str) -> None:
        super().__init__(f"{place} {what}; expected {expected}")


def _walk(form: ElementForm, shape: Shape, value: Any, place: str, out: list[Any]) -> None:
    if not shape:
        _append_one(form, value, place, out)
        return
    if not isinstance(value, list):
        raise _Fault(place, f"is {_spelled(value)}", f"a list of {_elements(shape[0])}")
    if len(value) != shape[0]:
        raise _Fault(place, f"has {_elements(len(value))}", f"{shape[0]}, as in the shape")
    if len(shape) == 1:
        _append(form, value, place, out)
        return
    for index, row in enumerate(value):
        _walk(form, shape[1:], row, f"{place}[{index}]", out)


def _append(form: ElementForm, row: Sequence[Any], place: str, out: list[Any]) -> None:
    if set(map(type, row)) <= form.types and (form.below == 0 or _all_within(form, row)):
        out.extend(row)
        return
    for index, value in enumerate(row):
        _append_one(form, value, f"{place}[{index}]", out)


def _all_within(form: ElementForm, row: Sequence[Any]) -> bool:
    return not row or (form.above < min(row) and max(row) < form.below)


def _append_one(form: ElementForm, value: Any, place: str, out: list[Any]) -> None:
    if isinstance(value, Token):
        if not value.text[-1].isdigit():
            raise _Fault(place, f"is {value.text}, which JSON does not have", form.noun)
        raise _beyond(form, value.text, place)
    if type(value) not in form.types:
        raise _Fault(place, f"is {_spelled(value)}", form.noun)
    if form.below and not form.above < value < form.below:
        raise _beyond(form, _spelled(value), place)
    out.append(value)


def _beyond(form: ElementForm, text: str, place: str) -> _Fault:
    if form.element is int:
        return _Fault(place, f"is {text}", form.noun)
    largest = f"{float(form.below - 1):.5g}"
    return _Fault(place, f"is {text}, beyond the range of {form.datatype}", f"a number from -{largest} to {largest}")


def _layout(shape: Shape) -> str:
    dims = shown(list(shape))
    return f"{_elements(math.prod(shape))} for shape {dims}, flat or nested as the shape is"


def _elements(count: int) -> str:
    return "1 element" if count == 1 else f"{count} elements"


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {_elements(len(value))}"
    if isinstance(value, dict):
        return "an object"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shown(value)


def _place(message: str) -> str:
    found = re.search(r"(.*) - at `\$((?:\[\d+\])*)`$", message)
    return f"{found[2]}: {found[1].lower()}" if found else f": {message}"
