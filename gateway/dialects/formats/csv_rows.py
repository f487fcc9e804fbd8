"""Rows as lines of comma-separated values without a header: SageMaker's `text/csv`."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Generator, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson

from sluice.gateway.dialects.formats.body_bounds import SPARE, check_rows, check_strings
from sluice.gateway.dialects.formats.json_forms import FORMS, ElementForm, shown
from sluice.gateway.dialects.formats.json_nested import tensor_from_nested
from sluice.gateway.dialects.formats.json_values import nested_json
from sluice.gateway.dialects.formats.slices import rows_at_a_time
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.types import STORAGE, Array, Datatype, Tensor, TensorSpec

TRUTHS = {"true": True, "false": False, "1": True, "0": False}
LINES, PIECE_BYTES = 1024, 64 * 1024
"""Lines, and bytes of lines, that are parsed at a time."""

LONG_LINE_BYTES = 4 * PIECE_BYTES

_LINES = re.compile(rb"[^\r\n]+")
_LINE_END = re.compile(rb"[\r\n]")


def tensor_from_csv(spec: TensorSpec, body: bytes | bytearray, max_rows: int | None = None) -> Tensor:
    """A row of the input for each line, its elements in row-major order. Raises `InvalidRequest`.

    Raises `RequestTooLarge` as soon as it has read more than `max_rows` lines; `None` is no bound.
    """
    own = [-1 if size is None else size for size in spec.shape[1:]]
    if not spec.shape or own.count(-1) > 1:
        raise InvalidRequest(f"input {shown(spec.name)} cannot be sent as CSV: lines do not tell its shape")
    rows = _Rows(spec, body, max_rows)
    if spec.datatype is not Datatype.BYTES and body.isascii() and b'"' not in body and b"_" not in body:
        for text in _plain_texts(body):
            rows.add_text(text)
    else:
        for lines in _any_lines(body, max_rows):
            rows.add(lines)
    if not rows.count:
        raise InvalidRequest("the body has no lines; expected a line of CSV for each row")
    try:
        return Tensor(spec.name, spec.datatype, rows.array().reshape(rows.count, *own))
    except ValueError:
        raise InvalidRequest(
            f"lines have {rows.width} values; expected as many as a row of the shape {own} has"
        ) from None


def _plain_texts(body: bytes | bytearray) -> Iterator[bytes]:
    """The text of some whole lines at a time, without line ends before the first and after the last."""
    view = memoryview(body)
    at = 0
    while at < len(view):
        found = _LINE_END.search(view, at + PIECE_BYTES)
        end = len(view) if found is None else found.end()
        text = bytes(view[at:end]).strip(b"\r\n")
        at = end
        if text:
            yield text


def _any_lines(body: bytes | bytearray, max_rows: int | None) -> Iterator[list[list[str]]]:
    """The fields of some lines at a time, without empty lines. It reads quotes and strings, too."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), strict=True)
    empty = 0
    try:
        while lines := list(islice(reader, LINES)):
            full = [line for line in lines if line]
            empty += len(lines) - len(full)
            if max_rows is not None and empty > max_rows + SPARE:
                raise RequestTooLarge(f"the body has more than {max_rows + SPARE} empty lines")
            if full:
                yield full
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is no CSV: {error}") from None


class _Rows:
    """Collects the rows of a body, whose lines must have equally many values."""

    def __init__(self, spec: TensorSpec, body: bytes | bytearray, max_rows: int | None) -> None:
        self.count = self.width = 0
        self._spec = TensorSpec(spec.name, spec.datatype, (None,))
        self._form = FORMS[spec.datatype]
        self._max_rows = max_rows
        # Numbers are written to their final place. The system gives memory only to pages that are written to.
        most = 0 if spec.datatype is Datatype.BYTES else sum(map(body.count, (b",", b"\n", b"\r"))) + 1
        self._flat = np.empty(most, STORAGE[spec.datatype])
        self._strings: list[Array] = []

    def add_text(self, text: bytes) -> None:
        """As `add`, of text without quotes, in which every comma and every line end separates."""
        if len(text) > LONG_LINE_BYTES:
            for line in _LINES.finditer(text):
                self._add_line(line[0])
        else:
            lines = text.decode().replace("\r", "\n").split("\n")
            self.add([line.split(",") for line in lines if line])

    def _add_line(self, line: bytes) -> None:
        """Add one line that may be long, some of its values at a time."""
        begin, place = self.count * self.width, 0
        at = 0
        while at <= len(line):
            end = line.find(b",", at + PIECE_BYTES)
            end = len(line) if end < 0 else end
            texts = line[at:end].decode().split(",")
            values = self._quickly([texts]) or [
                _element(self._form, text, self.count, each) for each, text in enumerate(texts, place)
            ]
            array = tensor_from_nested(self._spec, values).array
            self._flat[begin + place : begin + place + array.size] = array
            place += array.size
            at = end + 1
        self.count += 1
        self.width = self.width or place
        check_rows(self._spec.name, self.count, self._max_rows)
        if place != self.width:
            raise InvalidRequest(f"line {self.count} has {place} values, and line 1 has {self.width}")

    def add(self, lines: list[list[str]]) -> None:
        """Add the rows that these lines are. Raises `InvalidRequest` and `RequestTooLarge`."""
        self.width = self.width or len(lines[0])
        check_rows(self._spec.name, self.count + len(lines), self._max_rows)
        for number, line in enumerate(lines, self.count + 1):
            if len(line) != self.width:
                raise InvalidRequest(f"line {number} has {len(line)} values, and line 1 has {self.width}")
        values = self._quickly(lines)
        if values is None:
            values = [
                _element(self._form, text, number, place)
                for number, line in enumerate(lines, self.count)
                for place, text in enumerate(line)
            ]
        array = tensor_from_nested(self._spec, values).array
        begin = self.count * self.width
        self.count += len(lines)
        if self._form.datatype is Datatype.BYTES:
            check_strings(self._spec.name, self.count * self.width)
            self._strings.append(array)
        else:
            self._flat[begin : begin + array.size] = array

    def array(self) -> Array:
        """The elements of all rows, flat."""
        return np.concatenate(self._strings) if self._strings else self._flat[: self.count * self.width]

    def _quickly(self, lines: list[list[str]]) -> list[Any] | None:
        """The values, if all of them are certainly numbers; else `None`, and `_element` finds out which are not."""
        if self._form.element is bool or self._form.datatype is Datatype.BYTES:
            return None
        texts = list(chain.from_iterable(lines))
        if any(["_" in text or not text.isascii() for text in texts]):
            return None
        try:
            return list(map(self._form.element, texts))
        except ValueError:
            return None


def csv_in_steps(outputs: Sequence[Tensor]) -> Generator[None, None, bytes]:
    """A line for each row, with the elements of all outputs side by side, made in steps.

    Raises `InvalidRequest` if the outputs differ in length, or one has no axis.
    """
    rows = {tensor.array.shape[0] if tensor.array.ndim else None for tensor in outputs}
    if len(rows) != 1 or None in rows:
        raise InvalidRequest("the outputs have no rows in common, so they cannot be lines of CSV; ask for JSON")
    pieces = []
    width = sum([math.prod(tensor.array.shape[1:]) for tensor in outputs])
    for part in rows_at_a_time(len(outputs[0].array), width):
        columns = [_cells(Tensor(each.name, each.datatype, each.array[part])) for each in outputs]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(list(chain.from_iterable(cells)) for cells in zip(*columns, strict=True))
        pieces.append(text.getvalue().encode())
        yield
    return b"".join(pieces)


def _cells(tensor: Tensor) -> list[list[Any]]:
    """The elements of each row as JSON writes them, strings without quotes."""
    shape = tensor.array.shape
    rows = Tensor(tensor.name, tensor.datatype, tensor.array.reshape(shape[0], math.prod(shape[1:])))
    if rows.array.size == 0:
        return [[] for _ in range(len(rows.array))]
    if tensor.datatype is Datatype.BYTES:
        told: list[list[Any]] = orjson.loads(nested_json(rows))
        return told
    lines = nested_json(rows)[2:-2].decode().split("],[")
    return [line.split(",") for line in lines]


def _element(form: ElementForm, text: str, line: int, place: int) -> Any:
    """The value of one field, which is not yet checked against the datatype's range."""
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
