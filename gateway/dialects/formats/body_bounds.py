"""How much one body may hold: checked while it is read, before anything is done for each row, element or object.

`dialects/request_bounds.py` has the bounds of the request that comes out of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NoReturn

from sluice.gateway.dialects.formats.json_forms import shown
from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Datatype, Signature, Tensor

BOUNDED_FROM_BYTES = 64 * 1024
"""Values in shorter bodies are not counted beforehand: whatever they hold takes no time that matters."""

SPARE = 65_536
"""Commas that a JSON body may have beside those between its elements, in members that mean nothing to the model."""

MOST_QUOTES = 4 << 20
"""Quotes in a JSON body that is searched for strings, at most."""

MAX_TEXTS = 1 << 17
"""BYTES elements of one request, at most. Each is a Python object, which takes a fraction of a microsecond wherever all
elements of a tensor are read or written."""

OBJECT_TIMES, OBJECT_FLOOR_BYTES = 8, 32 * 1024 * 1024
"""Parsed JSON may take this many times the length of its text in memory, and in any case this many bytes."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LIST_BYTES, _OBJECT_BYTES, _ELEMENT_BYTES, _QUOTE_BYTES = 88, 240, 32, 32


def check_rows(name: str, rows: int, max_rows: int | None) -> None:
    """Raises `RequestTooLarge` for an input with more than `max_rows` rows; `None` is no bound."""
    if max_rows is not None and rows > max_rows:
        raise too_many_rows(f"input {shown(name)}", rows, max_rows)


def check_rows_of_each(tensors: Iterable[Tensor], max_rows: int | None) -> None:
    """As `check_rows`, for each of several inputs; one without axes has no rows."""
    for tensor in tensors:
        if tensor.array.ndim:
            check_rows(tensor.name, len(tensor.array), max_rows)


def check_strings(name: str, count: int) -> None:
    """Raises `RequestTooLarge` for an input with more strings than a request may have: each becomes an object."""
    if count > MAX_TEXTS:
        raise too_many_texts(f"input {shown(name)}", count)


def too_many_rows(what: str, rows: int, most: int) -> RequestTooLarge:
    """The refusal of an input or a request, named `what`, with more than `most` rows."""
    return RequestTooLarge(
        f"{what} has {rows} rows; one request has at most {most}, the lower one of server.max_rows and the model's "
        "batching.max_queue_rows"
    )


def too_many_texts(what: str, texts: int) -> RequestTooLarge:
    """The refusal of an input or a request, named `what`, with more than `MAX_TEXTS` elements of BYTES."""
    return RequestTooLarge(
        f"{what} has {texts} elements of BYTES; one request has at most {MAX_TEXTS}: send the others in another one"
    )


def most_elements(signature: Signature, max_rows: int) -> int | None:
    """Elements of all inputs together that the model can take, at most; `None` where an axis has any size.

    A row without elements counts as one, because it costs as much.
    """
    total = 0
    for spec in signature.inputs:
        own = spec.shape[1:] if signature.batched else spec.shape
        sizes = [size for size in own if size is not None]
        if len(sizes) < len(own):
            return None
        total += (max_rows if signature.batched else 1) * max(1, math.prod(sizes))
    return total


def check_structure(body: bytes | bytearray, signature: Signature, max_rows: int) -> None:
    """Raises `RequestTooLarge` for a JSON text with more numbers, lists or objects in it than the model can take.

    It counts commas and brackets. Strings may hold any number of those, so a model that takes strings is not checked.
    """
    length = len(body)
    if length < BOUNDED_FROM_BYTES or any([spec.datatype is Datatype.BYTES for spec in signature.inputs]):
        return
    most = most_elements(signature, max_rows)
    if most is not None and length > most + SPARE and (commas := body.count(b",")) > most + SPARE:
        _refuse(f"{commas} commas, and so more values", f"{most} at most")
    if not signature.batched or max([len(spec.shape) for spec in signature.inputs], default=0) > 2:
        return
    rows = max_rows * len(signature.inputs) + SPARE
    if length > rows and ((lists := body.count(b"[")) > rows or body.count(b"{") > rows):
        _refuse(f"{lists} lists, and so more rows", f"{max_rows} at most")


def _refuse(what: str, most: str) -> NoReturn:
    raise RequestTooLarge(
        f"the body has {what} than the model takes, which are {most}; server.max_rows and the model's "
        "batching.max_queue_rows bound the rows of a request"
    )


def check_objects(text: bytes | bytearray) -> None:
    """Raises `RequestTooLarge` for JSON that would take many times its length in memory once it is parsed."""
    allowed = max(OBJECT_TIMES * len(text), OBJECT_FLOOR_BYTES)
    if len(text) * _LIST_BYTES <= allowed or _cost_bytes(text) <= allowed:
        return
    # Brackets and commas in strings are no structure. Removing strings is slow, and seldom needed.
    if text.count(b'"') > MOST_QUOTES or _cost_bytes(_STRING.sub(b'""', text)) > allowed:
        raise RequestTooLarge(
            f"the body's JSON has so many lists, objects and values that {len(text)} bytes of it would take more than "
            f"{allowed} in memory; send fewer rows in a request, or numbers in lists that are longer"
        )


def _cost_bytes(text: bytes | bytearray) -> int:
    lists, objects, commas, quotes = (text.count(each) for each in (b"[", b"{", b",", b'"'))
    return _LIST_BYTES * lists + _OBJECT_BYTES * objects + _ELEMENT_BYTES * commas + _QUOTE_BYTES * quotes
