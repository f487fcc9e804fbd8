"""Large numeric requests of TensorFlow Serving's REST API, without a Python object for a number.

simdjson parses the whole body onto a tape and copies the numbers of a list from there, across any nesting. The body
does not state the shape, so the first elements are taken to show it, and it has to be proved that all others have it,
too. The proof compares skeletons: the body without the characters that numbers and white space consist of, and the same
of a body that has this shape throughout.

This is enough. Names have neither quotes nor backslashes, so equal skeletons have the same quotes and the same strings
in the same places. Outside of strings, brackets, braces, colons and commas are the same, and the text is JSON: so it is
the same tree, and where the expected one has room for a number only, the body has a number. Names that differ only in
digits have equal skeletons; therefore the names in every object are compared on the tape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import simdjson

from sluice.gateway.dialects.formats.json_forms import FORMS
from sluice.gateway.dialects.formats.json_tape import (
    UNUSUAL,
    list_on_tape,
    names_on_tape,
    numbers_from_tape,
    shape_on_tape,
    skeleton_of,
    skeleton_of_lists,
)
from sluice.inference.types import Signature, Tensor, TensorSpec

ROWS, COLUMNS, SIGNATURE_NAME = "instances", "inputs", "signature_name"
SIGNATURES = (None, "", "serving_default")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
MIN_LIST_BYTES = 3000
"""Named rows whose lists have less text than this are left to the general reader: here each list costs a call."""

Read: TypeAlias = tuple[tuple[Tensor, ...], bytes]
"""Tensors, and a skeleton. The tensors are right if the text that they were read from has this skeleton."""


def read_on_tape(body: bytes | bytearray, signature: Signature) -> tuple[str, tuple[Tensor, ...]] | None:
    """`instances` or `inputs`, and its tensors; `None` for a body with anything but even lists of finite numbers."""
    specs = signature.inputs
    if not all([FORMS[spec.datatype].carrier and _PLAIN.fullmatch(spec.name) for spec in specs]):
        return None
    try:
        document: Any = simdjson.Parser().parse(body)
        kind: str | None = None
        tensors: tuple[Tensor, ...] = ()
        members = []
        for key in names_on_tape(document):
            value = document[key]
            if key == SIGNATURE_NAME and value in SIGNATURES and value is not None:
                skeleton = b'"%b"' % skeleton_of(value.encode())
            elif key in (ROWS, COLUMNS) and kind is None:
                kind = key
                tensors, skeleton = (_rows if key == ROWS else _columns)(value, specs, len(body))
            else:
                return None
            members.append(_member(key, skeleton))
        whole = b"{%b}" % b",".join(members)
        return (kind, tensors) if kind is not None and skeleton_of(body) == whole else None
    except UNUSUAL:
        return None


def _rows(value: Any, specs: Sequence[TensorSpec], limit: int) -> Read:
    rows = list_on_tape(value)
    if not isinstance(rows[0], simdjson.Object):
        return _only(rows, specs, limit)
    if len(rows) * len(specs) * MIN_LIST_BYTES > limit:
        raise ValueError("many short rows")
    keys = names_on_tape(rows[0])
    shapes = {key: shape_on_tape(rows[0][key]) for key in keys}
    parts: dict[str, list[Any]] = {spec.name: [] for spec in specs}
    if shapes.keys() != parts.keys():
        raise ValueError("other names than the model's")
    forms = {spec.name: FORMS[spec.datatype] for spec in specs}
    for row in rows:
        if names_on_tape(row) != keys:
            raise ValueError("rows have other names than the first one, or in another order")
        for name in keys:
            parts[name].append(numbers_from_tape(forms[name], shapes[name], list_on_tape(row[name])))
    tensors = tuple([Tensor(spec.name, spec.datatype, np.stack(parts[spec.name])) for spec in specs])
    item = b"{%b}" % b",".join([_member(key, skeleton_of_lists(shapes[key], b"", limit)) for key in keys])
    return tensors, skeleton_of_lists((len(rows),), item, limit)


def _columns(value: Any, specs: Sequence[TensorSpec], limit: int) -> Read:
    if not isinstance(value, simdjson.Object):
        return _only(value, specs, limit)
    keys = names_on_tape(value)
    if set(keys) != {spec.name for spec in specs}:
        raise ValueError("other names than the model's")
    read = {spec.name: _only(value[spec.name], (spec,), limit) for spec in specs}
    tensors = tuple([read[spec.name][0][0] for spec in specs])
    return tensors, b"{%b}" % b",".join([_member(key, read[key][1]) for key in keys])


def _only(value: Any, specs: Sequence[TensorSpec], limit: int) -> Read:
    [spec] = specs
    shape = shape_on_tape(value)
    array = numbers_from_tape(FORMS[spec.datatype], shape, list_on_tape(value))
    return (Tensor(spec.name, spec.datatype, array),), skeleton_of_lists(shape, b"", limit)


def _member(key: str, skeleton: bytes) -> bytes:
    return b'"%b":%b' % (skeleton_of(key.encode()), skeleton)
