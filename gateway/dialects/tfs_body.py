"""Requests of TensorFlow Serving's REST API, from JSON text to an `InferenceRequest`.

`instances` has a value, or an object of named values, for each row; `inputs` has a tensor, or an object of named ones.
https://www.tensorflow.org/tfx/serving/api_rest is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.json_forms import listed, shown
from gateway.dialects.json_nested import TEXT_FROM_BYTES, is_b64, parsed_json, tensor_from_nested
from gateway.dialects.tfs_tape import COLUMNS, ROWS, SIGNATURE_NAME, SIGNATURES, read_on_tape
from inference.errors import InvalidRequest
from inference.types import InferenceRequest, Signature, Tensor, TensorSpec


class Reply(msgspec.Struct, frozen=True, tag="tfs"):
    """How an answer is to be written: as the question was, in `ROWS` or in `COLUMNS`."""

    form: str


def decode_predict(body: bytes | bytearray, signature: Signature) -> InferenceRequest:
    """The request in a body of `:predict`. Raises `InvalidRequest`, naming the input and what was expected."""
    if len(body) >= TEXT_FROM_BYTES:
        read = read_on_tape(body, signature)
        if read is not None:
            kind, tensors = read
            return InferenceRequest(tensors, reply=Reply(kind))
    members = object_of(body)
    if (ROWS in members) == (COLUMNS in members):
        raise InvalidRequest(f"the body must have either {ROWS!r}, a list of rows, or {COLUMNS!r}, whole tensors")
    if ROWS in members:
        rows = members[ROWS]
        if not isinstance(rows, list) or not rows:
            raise InvalidRequest(f"{ROWS!r} is {shown(rows)}; expected a list with a value for each row")
        return InferenceRequest(_from_rows(rows, signature), reply=Reply(ROWS))
    return InferenceRequest(_from_columns(members[COLUMNS], signature), reply=Reply(COLUMNS))


def object_of(body: bytes | bytearray) -> Mapping[str, Any]:
    """The members of a body, of which `signature_name` is known to be right. Raises `InvalidRequest`."""
    members = parsed_json(body)
    if not isinstance(members, dict):
        raise InvalidRequest("the body is not a JSON object")
    if members.get(SIGNATURE_NAME) not in SIGNATURES:
        raise InvalidRequest(
            f"{SIGNATURE_NAME!r} is {shown(members[SIGNATURE_NAME])}; the model has the signature 'serving_default'"
        )
    return members


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
        columns = columns_of(rows, signature, ROWS)
        return tuple([tensor_from_nested(spec, columns[spec.name]) for spec in signature.inputs])
    return (tensor_from_nested(_only_input(signature, ROWS), rows),)


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
