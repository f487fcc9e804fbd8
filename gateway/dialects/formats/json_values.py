"""Outputs as JSON lists that are nested as their shape is, for dialects whose answers do not state shapes."""

from __future__ import annotations

import base64
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import orjson

from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.json_numbers import numbers_json
from sluice.gateway.dialects.formats.slices import STEP_ELEMENTS, Text, effort, rows_at_a_time
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Datatype, Tensor

MIN_ROWS_TO_CUT = 4
"""Fewer rows than this are written one by one."""


def nested_json(tensor: Tensor) -> bytes:
    """The elements of an output, nested as its shape is. They may be `NaN`, `Infinity` and `-Infinity`.

    Floats have as few digits as identify them in their own precision. A string is text, but in an output whose name
    ends with `_bytes` it is `{"b64": "…"}`. Raises `InvalidRequest` if a text is not UTF-8.
    """
    array = tensor.array
    if tensor.datatype is Datatype.BYTES:
        return orjson.dumps(_strings(tensor.name, array.tolist(), binary=tensor.name.endswith("_bytes")))
    if tensor.datatype is Datatype.BF16:
        array = bfloat16.to_float32(array)
    if array.ndim == 0:
        return numbers_json(array.reshape(1))[1:-1]
    return numbers_json(np.ascontiguousarray(array))


def nested_in_steps(tensor: Tensor) -> Generator[None, None, bytes]:
    """As `nested_json`, in steps."""
    array = tensor.array
    if array.ndim == 0 or effort(array) <= STEP_ELEMENTS:
        return nested_json(tensor)
    text, width = Text(), effort(array[:1])
    for part in rows_at_a_time(len(array), width):
        if width > STEP_ELEMENTS:
            text.add((yield from nested_in_steps(Tensor(tensor.name, tensor.datatype, array[part.start, ...]))))
        else:
            text.add(nested_json(Tensor(tensor.name, tensor.datatype, array[part]))[1:-1])
            yield
    return b"[%b]" % text.joined(b",")


def columns_in_steps(outputs: Sequence[Tensor]) -> Generator[None, None, bytes]:
    """Whole outputs by name; a single one by itself."""
    if len(outputs) == 1:
        return (yield from nested_in_steps(outputs[0]))
    text = Text()
    for each in outputs:
        text.add(b"%b:%b" % (orjson.dumps(each.name), (yield from nested_in_steps(each))))
    return b"{%b}" % text.joined(b",")


def rows_in_steps(outputs: Sequence[Tensor], rows: int) -> Generator[None, None, bytes]:
    """A list with the value of each row, by name if there are several outputs. All of them have `rows` rows."""
    if len(outputs) == 1:
        return (yield from nested_in_steps(outputs[0]))
    width = sum([effort(each.array[:1]) for each in outputs])
    if rows * width <= STEP_ELEMENTS:
        return rows_json(outputs, rows)
    text = Text()
    for part in rows_at_a_time(rows, width):
        some = [Tensor(each.name, each.datatype, each.array[part]) for each in outputs]
        if width > STEP_ELEMENTS:
            row = [Tensor(each.name, each.datatype, each.array[0, ...]) for each in some]
            text.add((yield from columns_in_steps(row)))
        else:
            text.add(rows_json(some, part.stop - part.start)[1:-1])
            yield
    return b"[%b]" % text.joined(b",")


def columns_json(outputs: Sequence[Tensor]) -> bytes:
    """As `columns_in_steps`, at once."""
    return nested_json(outputs[0]) if len(outputs) == 1 else _named(outputs)


def rows_json(outputs: Sequence[Tensor], rows: int) -> bytes:
    """As `rows_in_steps`, at once."""
    if len(outputs) == 1:
        return nested_json(outputs[0])
    if rows < MIN_ROWS_TO_CUT:
        return b"[%b]" % b",".join([row_json(outputs, row) for row in range(rows)])
    cut = [_cut_rows(each) for each in outputs]
    members = [
        b"%b:%b" % (orjson.dumps(each.name).replace(b"%", b"%%"), form)
        for each, (form, _) in zip(outputs, cut, strict=True)
    ]
    row = b"{%b}" % b",".join(members)
    return b"[%b]" % b",".join([row % texts for texts in zip(*[texts for _, texts in cut], strict=True)])


def row_json(outputs: Sequence[Tensor], row: int) -> bytes:
    """The value of one row, by name if there are several outputs."""
    return columns_json([Tensor(each.name, each.datatype, each.array[row, ...]) for each in outputs])


def _cut_rows(tensor: Tensor) -> tuple[bytes, list[bytes]]:
    """The template for a row's text, and the text of each row to be put into it.

    Writing all rows at once and cutting the text is faster than writing each by itself.
    """
    array = tensor.array
    if tensor.datatype is Datatype.BYTES or array.size == 0:
        rows = [Tensor(tensor.name, tensor.datatype, array[row, ...]) for row in range(len(array))]
        return b"%b", [nested_json(row) for row in rows]
    # Between rows there are more brackets than anywhere within one.
    opening, closing = b"[" * (array.ndim - 1), b"]" * (array.ndim - 1)
    text = nested_json(tensor)[array.ndim : -array.ndim]
    return b"%b%%b%b" % (opening, closing), text.split(closing + b"," + opening)


def _named(outputs: Sequence[Tensor]) -> bytes:
    return b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(each.name), nested_json(each)) for each in outputs])


def _strings(name: str, value: Any, *, binary: bool) -> Any:
    if isinstance(value, list):
        return [_strings(name, each, binary=binary) for each in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output {shown(name)} holds {shown(value)}, which is no UTF-8; an output named …_bytes is told as base64"
        ) from None
