"""Tensors as nested JSON lists without a stated shape, as in TensorFlow Serving's, TorchServe's and SageMaker's bodies.

Two readers agree with each other. `tensor_from_nested` takes parsed values, decides every case, and says what is wrong.
`tensor_from_text` is for large numeric lists and makes no Python object for a number.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import simdjson

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.body_bounds import check_objects, check_strings
from sluice.gateway.dialects.formats.json_forms import FORMS, MAX_AXES, ElementForm, array_of, shown
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.gateway.dialects.formats.json_tape import (
    UNUSUAL,
    list_on_tape,
    numbers_from_tape,
    shape_on_tape,
    skeleton_of,
    skeleton_of_lists,
)
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, Shape, Tensor, TensorSpec

TEXT_FROM_BYTES = 4096
"""Lists with a text of this length and more are first tried with `tensor_from_text`."""

B64 = "b64"


def parsed_json(body: bytes | bytearray) -> Any:
    """A JSON text, in which numbers may also be `NaN`, `Infinity` and `-Infinity`.

    Raises `NotJson`, and `RequestTooLarge` if the parsed values would take too much memory.
    """
    check_objects(body)
    try:
        return orjson.loads(body)
    except ValueError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise NotJson(f"the body is not valid JSON: {error}") from None
    if not any([word in body for word in _LITERALS]):
        # Faster than `json`, which needs a call for each number.
        with suppress(ValueError):
            return _spoken(orjson.loads(_literally(body)))
    try:
        return json.loads(body, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"the body is not valid JSON: {error}") from None


_LITERALS = (b"null", b"true", b"false")
_NUMBERS: Mapping[object, float] = MappingProxyType({None: math.nan, True: math.inf, False: -math.inf})


def _literally(body: bytes | bytearray) -> bytes:
    """The text, which has no literals, with one in the place of each number that JSON does not have."""
    return bytes(body).replace(b"NaN", b"null").replace(b"-Infinity", b"false").replace(b"Infinity", b"true")


def _spoken(value: Any) -> Any:
    """The value of a text, out of the value of its `_literally`. Raises `ValueError` where that is ambiguous."""
    if type(value) is list:
        kinds = set(map(type, value))
        if kinds & {list, dict, str}:
            return [_spoken(each) for each in value]
        return [_NUMBERS[each] if each is None or type(each) is bool else each for each in value]
    if type(value) is dict:
        return {_spoken(name): _spoken(each) for name, each in value.items()}
    if type(value) is str:
        if any([word.decode() in value for word in _LITERALS]):
            raise ValueError("a string has a literal in it")
        return value
    return _NUMBERS[value] if value is None or type(value) is bool else value


def _finite(text: str) -> float:
    """A number in a text. Raises `ValueError` for one that is too large, which `json` would make infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text)} is too large for double precision")
    return value


def tensor_from_nested(spec: TensorSpec, value: Any) -> Tensor:
    """The tensor in a value of nested lists, from which it has its shape.

    An element of BYTES is a string or `{"b64": "…"}`. If there are no elements, the rest of the shape is the model's.
    Raises `InvalidRequest`, naming the input and what was expected.
    """
    form = FORMS[spec.datatype]
    shape: list[int] = []
    level: list[Any] = [value]
    while level and type(level[0]) is list:
        size = len(level[0])
        if any([type(each) is not list or len(each) != size for each in level]):
            raise InvalidRequest(
                f"input {shown(spec.name)}: lists {len(shape) + 1} deep differ in length, or stand beside what is no "
                "list; all rows must have one shape"
            )
        shape.append(size)
        if len(shape) > MAX_AXES:
            raise InvalidRequest(f"input {shown(spec.name)} is nested too deeply; at most {MAX_AXES} axes can be had")
        level = list(chain.from_iterable(level))
    if not level:
        shape += [size or 0 for size in spec.shape[len(shape) :]]
    return Tensor(spec.name, spec.datatype, _array(spec.name, form, level, tuple(shape)))


def tensor_from_text(spec: TensorSpec, text: bytes) -> Tensor | None:
    """The numbers of a list; `None` for a text that is no JSON list, or if there is anything unusual about it.

    Numbers are taken across all nesting. That every list has the same length as its neighbours is then seen from the
    text: its brackets and commas must be just those that the shape makes.
    """
    form = FORMS[spec.datatype]
    if not form.carrier:
        return None
    try:
        data = list_on_tape(simdjson.Parser().parse(text))
        shape = shape_on_tape(data)
        expected = skeleton_of_lists(shape, b"", len(text))
        if skeleton_of(text) != expected:
            return None
        return Tensor(spec.name, spec.datatype, numbers_from_tape(form, shape, data))
    except UNUSUAL:
        return None


def _array(name: str, form: ElementForm, elements: list[Any], shape: Shape) -> Array:
    if form.datatype is Datatype.BYTES:
        check_strings(name, len(elements))
        strings = np.empty(len(elements), np.object_)
        strings[:] = [_string(name, each) for each in elements]
        return strings.reshape(shape)
    odd = set(map(type, elements)) - form.types
    if odd:
        wrong = next(each for each in elements if type(each) in odd)
        raise InvalidRequest(f"input {shown(name)} has the element {shown(wrong)}; expected {form.noun}")
    if form.element is float:
        return _floats(name, form, elements, shape)
    if form.below:
        wrong = next((each for each in elements if not form.above < each < form.below), None)
        if wrong is not None:
            raise InvalidRequest(f"input {shown(name)} has the element {shown(wrong)}; expected {form.noun}")
    return array_of(form, elements, shape)


def _floats(name: str, form: ElementForm, elements: list[Any], shape: Shape) -> Array:
    """Numbers are rounded once, from double precision. Only one that was written as infinite may become infinite."""
    try:
        if not form.code:
            return bfloat16.from_any_float64(np.array(elements, np.float64)).reshape(shape)
        # `struct` refuses a finite number that would become infinite: a float with `OverflowError`, a whole number with
        # `struct.error`.
        return array_of(form, elements, shape)
    except (OverflowError, struct.error):
        raise InvalidRequest(f"input {shown(name)} has an element beyond the range of {form.datatype}") from None


def _string(name: str, value: Any) -> bytes:
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"input {shown(name)} has half of a surrogate pair in {shown(value)}") from None
    if is_b64(value):
        try:
            return base64.b64decode(value[B64], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(f"input {shown(name)}: {shown(value)} is not base64: {error}") from None
    raise InvalidRequest(f'input {shown(name)} has the element {shown(value)}; expected a string or {{"b64": "…"}}')


def is_b64(value: Any) -> bool:
    """Whether a value is `{"b64": "…"}`, which stands for bytes."""
    return type(value) is dict and len(value) == 1 and type(value.get(B64)) is str
