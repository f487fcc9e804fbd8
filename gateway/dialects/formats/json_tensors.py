"""Tensors with a stated shape as JSON text, exactly: numbers, booleans and strings to arrays and back.

Numbers are read in double precision and then rounded once, to nearest, ties to even, as `numpy.float32(json_value)`
does; a number that rounds to infinity is refused. Elements are one flat list in row-major order, or nested as the shape
is. The element of a shape without axes may also stand alone.

Four readers agree on every text that they accept:

- `tensor_from_json`: typed lists, with a Python object for each element; the fastest for small tensors, and the usual
  one for booleans and strings;
- `json_tape.numbers_from_tape`: no object per number; for large numeric tensors;
- `json_long.long_tensor_from_json`: a piece at a time, by one of the others; for long texts;
- `json_reference.elements_of`: slow, but decides every odd case and says exactly what is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec
import orjson

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.body_bounds import check_objects, check_strings
from sluice.gateway.dialects.formats.json_forms import ElementForm, array_of, element_count, shown
from sluice.gateway.dialects.formats.json_long import long_tensor_from_json
from sluice.gateway.dialects.formats.json_numbers import with_non_finite
from sluice.gateway.dialects.formats.json_pieces import PIECES_FROM_BYTES
from sluice.gateway.dialects.formats.json_reference import NotJson, elements_of
from sluice.gateway.dialects.formats.json_typed import MAX_TYPED_AXES, nested_decoder
from sluice.gateway.dialects.formats.json_views import is_list
from sluice.gateway.dialects.formats.slices import STEP_ELEMENTS, Text, rows_at_a_time
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Datatype, Shape, Tensor


def tensor_from_json(name: str, form: ElementForm, shape: Shape, data: msgspec.Raw) -> Tensor:
    """One input from its JSON text. Raises `InvalidRequest`, naming the input and what was expected."""
    count = element_count(name, shape)
    if form.datatype is Datatype.BYTES:
        check_strings(name, count)
    text = memoryview(data)
    if len(text) >= PIECES_FROM_BYTES:
        if is_list(text) and count and shape:
            with suppress(NotJson):
                return long_tensor_from_json(name, form, shape, text)
        check_objects(bytes(text))
    try:
        values = _flat_or_nested(form, shape, data)
        if len(values) == count:
            return Tensor(name, form.datatype, array_of(form, values, shape))
    except (ValueError, RecursionError, OverflowError, struct.error):
        pass
    values = elements_of(name, form, shape, data)
    try:
        return Tensor(name, form.datatype, array_of(form, values, shape))
    except ValueError:
        raise InvalidRequest(
            f"input {shown(name)} has shape {shown(list(shape))}; no array has so large an axis, even without elements"
        ) from None


def _flat_or_nested(form: ElementForm, shape: Shape, data: msgspec.Raw) -> list[Any]:
    if len(shape) < 2:
        return form.flat.decode(data)
    text = bytes(data)
    # A bracket in a string misleads this test, but does no harm: the nested decoder refuses, and the reference decides.
    if text.find(b"[", 1) < 0:
        return form.flat.decode(text)
    if len(shape) > MAX_TYPED_AXES:
        raise ValueError("nested more deeply than is usual")
    rows = nested_decoder(form.datatype, len(shape)).decode(text)
    if len(rows) != shape[0]:
        raise ValueError("not nested as the shape says")
    for size in shape[1:]:
        if any([len(row) != size for row in rows]):
            raise ValueError("not nested as the shape says")
        rows = list(chain.from_iterable(rows))
    return rows


def data_json(tensor: Tensor) -> bytes:
    """The elements of an output as one flat JSON list, with `NaN`, `Infinity` and `-Infinity` where JSON has no number.

    Raises `InvalidRequest` if a string is not UTF-8, since JSON has no other strings.
    """
    array = tensor.array.ravel()
    if tensor.datatype is Datatype.BYTES:
        return orjson.dumps([_string(tensor.name, index, item) for index, item in enumerate(array.tolist())])
    if tensor.datatype is Datatype.BF16:
        array = bfloat16.to_float32(array)
    # As `numbers_json`, but without another call: most answers are short.
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return with_non_finite(text, array) if b"null" in text else text


def data_in_steps(tensor: Tensor) -> Generator[None, None, bytes]:
    """As `data_json`, in steps."""
    if tensor.array.size <= STEP_ELEMENTS:
        return data_json(tensor)
    flat, text = tensor.array.reshape(-1), Text()
    for part in rows_at_a_time(flat.size, 1):
        try:
            text.add(data_json(Tensor(tensor.name, tensor.datatype, flat[part]))[1:-1])
        except InvalidRequest as fault:
            raise InvalidRequest(f"{fault} (counted from element {part.start})") from None
        yield
    return b"[%b]" % text.joined(b",")


def _string(name: str, index: int, item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output {shown(name)} cannot be written as JSON: element {index}, {shown(item)}, is not UTF-8"
        ) from None
