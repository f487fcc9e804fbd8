"""Rows as lines of text with commas, without a header: `text/csv`, as SageMaker has it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from gateway.dialects.json_forms import FORMS, Form, shown
from gateway.dialects.json_nested import tensor_from_nested
from gateway.dialects.json_values import nested_json
from inference.errors import InvalidRequest
from inference.types import Datatype, Tensor, TensorSpec

TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def tensor_from_csv(spec: TensorSpec, body: bytes | bytearray) -> Tensor:
    """A row of the input for each line, its elements in row-major order. Raises `InvalidRequest`."""
    form = FORMS[spec.datatype]
    try:
        lines = list(csv.reader(io.StringIO(bytes(body).decode(), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is no CSV: {error}") from None
    lines = [line for line in lines if line]
    if not lines:
        raise InvalidRequest("the body has no lines; expected a line of CSV for each row")
    rows = _floats(body, lines) if form.element is float else None
    if rows is None:
        rows = [
            [_element(form, text, number, place) for place, text in enumerate(line)]
            for number, line in enumerate(lines)
        ]
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InvalidRequest(f"line {number + 1} has {len(row)} values, and line 1 has {len(rows[0])}")
    flat = tensor_from_nested(TensorSpec(spec.name, spec.datatype, (None, None)), rows)
    own = [-1 if size is None else size for size in spec.shape[1:]]
    if not spec.shape or own.count(-1) > 1:
        raise InvalidRequest(f"input {shown(spec.name)} cannot be sent as CSV: lines do not tell its shape")
    try:
        return Tensor(spec.name, spec.datatype, flat.array.reshape(len(rows), *own))
    except ValueError:
        raise InvalidRequest(
            f"lines have {len(rows[0])} values; expected as many as a row of the shape {own} has"
        ) from None


def _floats(body: bytes | bytearray, lines: list[list[str]]) -> list[list[Any]] | None:
    """The values, if all of them are floats beyond doubt; `None` leaves it to `_element` to say which is not."""
    if b"_" in body or not body.isascii():
        return None
    try:
        return [list(map(float, line)) for line in lines]
    except ValueError:
        return None


def csv_of(outputs: Sequence[Tensor]) -> bytes:
    """A line for each row, with the elements of all outputs side by side. Raises `InvalidRequest` without rows."""
    rows = {tensor.array.shape[0] if tensor.array.ndim else None for tensor in outputs}
    if len(rows) != 1 or None in rows:
        raise InvalidRequest("the outputs have no rows in common, so they cannot be lines of CSV; ask for JSON")
    columns = [_cells(tensor) for tensor in outputs]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(list(chain.from_iterable(cells)) for cells in zip(*columns, strict=True))
    return text.getvalue().encode()


def _cells(tensor: Tensor) -> list[list[Any]]:
    """The elements of each row, as JSON writes them, strings bare."""
    rows = Tensor(tensor.name, tensor.datatype, tensor.array.reshape(tensor.array.shape[0], -1))
    if tensor.datatype is Datatype.BYTES:
        told: list[list[Any]] = orjson.loads(nested_json(rows))
        return told
    if rows.array.size == 0:
        return [[] for _ in range(len(rows.array))]
    lines = nested_json(rows)[2:-2].decode().split("],[")
    return [line.split(",") for line in lines]


def _element(form: Form, text: str, line: int, place: int) -> Any:
    """The value of one field, still to be held against the datatype's range."""
    stripped = text.strip(" \t")
    if form.datatype is Datatype.BYTES:
        return text
    try:
        # Python would read 1_000 as a number.
        if "_" in stripped or not stripped.isascii():
            raise ValueError
        if form.element is bool:
            return TRUTHS[stripped.lower()]
        return int(stripped) if form.element is int else float(stripped)
    except (ValueError, KeyError):
        raise InvalidRequest(
            f"line {line + 1}, value {place + 1} is {shown(text)}; expected {form.noun}, and no line with names"
        ) from None
