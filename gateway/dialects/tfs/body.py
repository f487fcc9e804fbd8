"""Requests of TensorFlow Serving's REST API, from JSON text to an `InferenceRequest`.

`instances` has a value, or an object of named values, for each row; `inputs` has a tensor, or an object of named ones.
https://www.tensorflow.org/tfx/serving/api_rest is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from sluice.gateway.dialects.formats.body_bounds import check_rows, check_rows_of_each
from sluice.gateway.dialects.formats.json_forms import listed, shown
from sluice.gateway.dialects.formats.json_nested import TEXT_FROM_BYTES, is_b64, parsed_json, tensor_from_nested
from sluice.gateway.dialects.formats.json_pieces import PIECES_FROM_BYTES
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.gateway.dialects.formats.json_rows import column_of, tensor_from_list, tensors_from_rows
from sluice.gateway.dialects.formats.json_views import (
    begins_with_b64,
    begins_with_object,
    is_list,
    is_object,
    members_of,
)
from sluice.gateway.dialects.tfs.tape import COLUMNS, ROWS, SIGNATURE_NAME, SIGNATURES, read_on_tape
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import InferenceRequest, Signature, Tensor, TensorSpec


class PredictAnswerForm(msgspec.Struct, frozen=True, tag="tfs"):
    """How an answer is written: as its request was, in `ROWS` or in `COLUMNS`."""

    form: str


def decode_predict(body: bytes | bytearray, signature: Signature, max_rows: int | None = None) -> InferenceRequest:
    """The request in a body of `:predict`, with at most `max_rows` rows, unless that is `None`.

    Raises `InvalidRequest`, naming the input and what was expected, and `RequestTooLarge`.
    """
    if len(body) >= PIECES_FROM_BYTES:
        with suppress(NotJson):
            return _decode_long(memoryview(body), signature, max_rows)
    elif len(body) >= TEXT_FROM_BYTES:
        read = read_on_tape(body, signature)
        if read is not None:
            kind, tensors = read
            check_rows_of_each(tensors, max_rows)
            return InferenceRequest(tensors, reply=PredictAnswerForm(kind))
    members = object_of(body)
    if (ROWS in members) == (COLUMNS in members):
        raise InvalidRequest(_ONE_OF_TWO)
    if ROWS in members:
        rows = members[ROWS]
        if not isinstance(rows, list) or not rows:
            raise InvalidRequest(f"{ROWS!r} is {shown(rows)}; expected a list with a value for each row")
        check_rows(ROWS, len(rows), max_rows)
        return InferenceRequest(_from_rows(rows, signature), reply=PredictAnswerForm(ROWS))
    tensors = _from_columns(members[COLUMNS], signature)
    check_rows_of_each(tensors, max_rows)
    return InferenceRequest(tensors, reply=PredictAnswerForm(COLUMNS))


_ONE_OF_TWO = f"the body must have either {ROWS!r}, a list of rows, or {COLUMNS!r}, whole tensors"


def _decode_long(body: memoryview, signature: Signature, max_rows: int | None) -> InferenceRequest:
    """As `decode_predict`, a piece at a time. Raises `NotJson` also for JSON that cannot be cut into pieces."""
    members = members_of(body, (ROWS, COLUMNS, SIGNATURE_NAME))
    check_signature_name(members.get(SIGNATURE_NAME))
    if (ROWS in members) == (COLUMNS in members):
        raise InvalidRequest(_ONE_OF_TWO)
    if ROWS in members:
        text = members[ROWS]
        if not is_list(text):
            raise InvalidRequest(f"{ROWS!r} is no list; expected one with a value for each row")
        if begins_with_object(text) and not begins_with_b64(text):
            tensors = tensors_from_rows(signature.inputs, text, max_rows, lambda rows: _from_named(rows, signature))
        else:
            tensors = (tensor_from_list(_only_input(signature, ROWS), text, max_rows),)
        if not len(tensors[0].array):
            raise InvalidRequest(f"{ROWS!r} is an empty list; expected one with a value for each row")
        return InferenceRequest(tensors, reply=PredictAnswerForm(ROWS))
    return InferenceRequest(_long_columns(members[COLUMNS], signature, max_rows), reply=PredictAnswerForm(COLUMNS))


def _long_columns(text: memoryview, signature: Signature, max_rows: int | None) -> tuple[Tensor, ...]:
    if is_list(text):
        return (tensor_from_list(_only_input(signature, COLUMNS), text, max_rows),)
    specs = {spec.name: spec for spec in signature.inputs}
    if not is_object(text) or begins_with_b64(text):
        return (tensor_from_nested(_only_input(signature, COLUMNS), parsed_json(bytes(text))),)
    columns = members_of(text, tuple(specs), exactly=True)
    return tuple([column_of(spec, columns[name], max_rows) for name, spec in specs.items()])


def check_signature_name(text: memoryview | None) -> None:
    """Raises `InvalidRequest` for the JSON of an unknown signature name. `None` means that the body has none."""
    if text is None:
        return
    name = parsed_json(bytes(text)) if len(text) < 256 else "a long one"
    if not _is_signature(name):
        raise InvalidRequest(f"{SIGNATURE_NAME!r} is {shown(name)}; the model has the signature 'serving_default'")


def object_of(body: bytes | bytearray) -> Mapping[str, Any]:
    """The members of a body. Raises `InvalidRequest` for no object, and for a wrong `signature_name`."""
    members = parsed_json(body)
    if not isinstance(members, dict):
        raise InvalidRequest("the body is not a JSON object")
    if not _is_signature(members.get(SIGNATURE_NAME)):
        raise InvalidRequest(
            f"{SIGNATURE_NAME!r} is {shown(members[SIGNATURE_NAME])}; the model has the signature 'serving_default'"
        )
    return members


def _is_signature(name: object) -> bool:
    return name is None or (isinstance(name, str) and name in SIGNATURES)


def columns_of(rows: Sequence[Any], signature: Signature, kind: str) -> dict[str, list[Any]]:
    """The values of each input, one for each row, of rows that are objects. Raises `InvalidRequest`."""
    names = [spec.name for spec in signature.inputs]
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != set(names):
            given = listed(row) if isinstance(row, dict) else shown(row)
            raise InvalidRequest(
                f"{kind}[{number}] has {given or 'no members'}; expected an object with {', '.join(map(repr, names))}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _from_rows(rows: list[Any], signature: Signature) -> tuple[Tensor, ...]:
    if isinstance(rows[0], dict) and not is_b64(rows[0]):
        return _from_named(rows, signature)
    return (tensor_from_nested(_only_input(signature, ROWS), rows),)


def _from_named(rows: list[Any], signature: Signature) -> tuple[Tensor, ...]:
    columns = columns_of(rows, signature, ROWS)
    return tuple([tensor_from_nested(spec, columns[spec.name]) for spec in signature.inputs])


def _from_columns(value: Any, signature: Signature) -> tuple[Tensor, ...]:
    if not isinstance(value, dict) or is_b64(value):
        return (tensor_from_nested(_only_input(signature, COLUMNS), value),)
    specs = {spec.name: spec for spec in signature.inputs}
    if value.keys() != specs.keys():
        raise InvalidRequest(f"{COLUMNS!r} has {listed(value) or 'no members'}; expected {', '.join(map(repr, specs))}")
    return tuple([tensor_from_nested(spec, value[name]) for name, spec in specs.items()])


def _only_input(signature: Signature, kind: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in signature.inputs)
        raise InvalidRequest(f"{kind!r} has values without names, but the model has {names}; name each of them")
    return signature.inputs[0]
