"""How much one request may hold. It is looked at before anything is done for each row, element or object."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.request_bounds import MAX_TEXTS, too_many_rows, too_many_texts
from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Datatype, Signature

BOUNDED_FROM_BYTES = 64 * 1024
"""Shorter bodies are not counted through: whatever stands in them takes no time that matters."""

SPARE = 65_536
"""Commas that a JSON body may have beside those between its elements, in members that mean nothing to the model."""

MOST_QUOTES = 4 << 20
"""In a JSON body that is looked through for what stands in strings, at most."""

MOST_OUTPUTS = 4096
"""Outputs that a request names, at most."""

OBJECT_TIMES, OBJECT_FLOOR_BYTES = 8, 32 * 1024 * 1024
"""JSON that is made into objects may take so many times its length in memory, and always this much."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LIST_BYTES, _OBJECT_BYTES, _ELEMENT_BYTES = 88, 240, 32


def rows_bound(callee: Callee) -> int | None:
    """Rows of a request to this model, at most; `None` where it has no rows."""
    return callee.max_rows if callee.signature.batched else None


def check_rows(name: str, rows: int, max_rows: int | None) -> None:
    """Raises `RequestTooLarge` for more rows than a request may have."""
    if max_rows is not None and rows > max_rows:
        raise too_many_rows(f"input {shown(name)}", rows, max_rows)


def check_strings(name: str, count: int) -> None:
    """Raises `RequestTooLarge` for an input with more strings than a request may have: each becomes an object."""
    if count > MAX_TEXTS:
        raise too_many_texts(f"input {shown(name)}", count)


def most_elements(signature: Signature, max_rows: int) -> int | None:
    """Elements of all inputs together that the model can take, at most; `None` where an axis has any size.

    A row without elements counts as one: that much it costs.
    """
    total = 0
    for spec in signature.inputs:
        own = spec.shape[1:] if signature.batched else spec.shape
        sizes = [size for size in own if size is not None]
        if len(sizes) < len(own):
            return None
        total += (max_rows if signature.batched else 1) * max(1, math.prod(sizes))
    return total


def check_structure(body: bytes | bytearray, callee: Callee) -> None:
    """Raises `RequestTooLarge` for a JSON text with more numbers, lists or objects in it than the model can take.

    Elements have a comma between them, whatever they are. Strings may hold any number of commas and brackets, so that
    this is not for models which take those.
    """
    signature, length = callee.signature, len(body)
    if length < BOUNDED_FROM_BYTES or any([spec.datatype is Datatype.BYTES for spec in signature.inputs]):
        return
    most = most_elements(signature, callee.max_rows)
    if most is not None and length > most + SPARE and (commas := body.count(b",")) > most + SPARE:
        _refuse(f"{commas} commas, and so more values", f"{most} at most")
    if not signature.batched or max([len(spec.shape) for spec in signature.inputs], default=0) > 2:
        return
    rows = callee.max_rows * len(signature.inputs) + SPARE
    if length > rows and ((lists := body.count(b"[")) > rows or body.count(b"{") > rows):
        _refuse(f"{lists} lists, and so more rows", f"{callee.max_rows} at most")


def _refuse(what: str, most: str) -> NoReturn:
    raise RequestTooLarge(
        f"the body has {what} than the model takes, which are {most}; server.max_rows and the model's "
        "batching.max_queue_rows bound the rows of a request"
    )


def check_objects(text: bytes | bytearray) -> None:
    """Raises `RequestTooLarge` for JSON that would take many times its length in memory once it is objects."""
    allowed = max(OBJECT_TIMES * len(text), OBJECT_FLOOR_BYTES)
    if len(text) * _LIST_BYTES <= allowed or _cost_bytes(text) <= allowed:
        return
    # What stands in strings is no structure. Taking them out is slow, and seldom needed.
    if text.count(b'"') > MOST_QUOTES or _cost_bytes(_STRING.sub(b'""', text)) > allowed:
        raise RequestTooLarge(
            f"the body's JSON has so many lists, objects and values that {len(text)} bytes of it would take more than "
            f"{allowed} in memory; send fewer rows in a request, or numbers in lists that are longer"
        )


def _cost_bytes(text: bytes | bytearray) -> int:
    lists, objects, commas = text.count(b"["), text.count(b"{"), text.count(b",")
    return _LIST_BYTES * lists + _OBJECT_BYTES * objects + _ELEMENT_BYTES * commas + 32 * text.count(b'"')
