"""The body of a prediction request in the Open Inference Protocol V2, from JSON text to an `InferenceRequest`."""

from __future__ import annotations

from typing import Any

import msgspec
import simdjson

from sluice.gateway.dialects.formats.json_forms import FORMS, element_count, form_of, shown
from sluice.gateway.dialects.formats.json_pieces import PIECES_FROM_BYTES
from sluice.gateway.dialects.formats.json_tape import (
    UNUSUAL,
    bracket_count,
    has_brackets,
    list_on_tape,
    names_on_tape,
    numbers_from_tape,
)
from sluice.gateway.dialects.formats.json_tensors import tensor_from_json
from sluice.gateway.dialects.request_bounds import MAX_PARAMETERS, too_many_parameters
from sluice.gateway.dialects.v2.faults import fault_of
from sluice.gateway.dialects.v2.outputs import BINARY_OUTPUTS, RequestedOutput, answer_form_of
from sluice.gateway.dialects.v2.request_checks import check_shape, refuse_repeated
from sluice.gateway.dialects.v2.schedule import UNSAID, schedule_of
from sluice.inference.errors import InvalidRequest, RequestTooLarge
from sluice.inference.types import InferenceRequest, ParameterValue, Signature, Tensor

TAPE_FROM_BYTES = 4096
"""Bodies of this length and more are first read from simdjson's tape; for shorter ones typed lists are as fast. The
tape of a long body would take too much memory: its tensors are read in pieces."""

BITS = 64

MOST_OUTPUTS = 4096
"""Outputs that a request names, at most."""


class BodyHead(msgspec.Struct, gc=False):
    """A request without its inputs."""

    id: str | None = None
    parameters: dict[str, ParameterValue] | None = None
    outputs: list[RequestedOutput] | None = None


class InputHead(msgspec.Struct, gc=False):
    """An input without its data."""

    name: str
    shape: tuple[int, ...]
    datatype: str


class _Input(InputHead, gc=False):
    data: msgspec.Raw


class _Body(BodyHead, gc=False, kw_only=True):
    inputs: list[_Input]


_BODY = msgspec.json.Decoder(_Body)
_BODY_KEYS = frozenset(_Body.__struct_fields__)
_INPUT_KEYS = frozenset(_Input.__struct_fields__)


def decode_body(body: bytes | bytearray, signature: Signature, max_rows: int | None = None) -> InferenceRequest:
    """The request in a body, with inputs of at most `max_rows` rows, unless that is `None`.

    Raises `InvalidRequest`, naming the input and what was expected, and `RequestTooLarge`.
    """
    if TAPE_FROM_BYTES <= len(body) < PIECES_FROM_BYTES and all(
        [FORMS[spec.datatype].carrier for spec in signature.inputs]
    ):
        request = decode_by_tape(body, max_rows)
        if request is not None:
            return request
    return decode_by_lists(body, signature, max_rows)


def decode_by_lists(body: bytes | bytearray, signature: Signature, max_rows: int | None = None) -> InferenceRequest:
    """The general reader, which decides every case and explains what is wrong. Raises as `decode_body` does."""
    try:
        parsed = _BODY.decode(body)
    except (ValueError, RecursionError) as error:
        raise fault_of(body, error) from None
    if not parsed.inputs and signature.inputs:
        names = ", ".join([repr(spec.name) for spec in signature.inputs])
        raise InvalidRequest(f"the request has no inputs; expected {names}")
    for each in parsed.inputs:
        check_shape(each.name, each.shape, max_rows)
    tensors = tuple(
        [
            tensor_from_json(each.name, form_of(each.name, each.datatype), each.shape, each.data)
            for each in parsed.inputs
        ]
    )
    return request_of(tensors, parsed)


def decode_by_tape(body: bytes | bytearray, max_rows: int | None = None) -> InferenceRequest | None:
    """The fast reader, for large numeric tensors. `None` for any other body, be it right or wrong."""
    # simdjson would skip a byte order mark, which the general reader refuses.
    if not body.startswith(b"{"):
        return None
    try:
        return _from_tape(simdjson.Parser().parse(body), body, max_rows)
    except (*UNUSUAL, InvalidRequest):
        return None


def _from_tape(document: Any, body: bytes | bytearray, max_rows: int | None) -> InferenceRequest | None:
    whole = _members(document, _BODY_KEYS)
    inputs = whole.pop("inputs")
    head = msgspec.convert({key: _plain(value) for key, value in whole.items()}, BodyHead)
    tensors = []
    brackets = 1 if head.outputs is None else 2
    for element in inputs:
        members = _members(element, _INPUT_KEYS)
        data = list_on_tape(members.pop("data"))
        each = msgspec.convert({key: _plain(value) for key, value in members.items()}, InputHead)
        form = form_of(each.name, each.datatype)
        count = element_count(each.name, each.shape)
        check_shape(each.name, each.shape, max_rows)
        brackets += 1 + bracket_count(each.shape, count, data)
        tensors.append(Tensor(each.name, form.datatype, numbers_from_tape(form, each.shape, data)))
    return request_of(tuple(tensors), head) if tensors and has_brackets(body, brackets) else None


def _members(element: Any, wanted: frozenset[str]) -> dict[str, Any]:
    """The wanted members of an object, with their values still on the tape."""
    # Each look-up passes through the whole object, so only those few are made.
    return {name: element[name] for name in wanted.intersection(names_on_tape(element))}


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def request_of(tensors: tuple[Tensor, ...], head: BodyHead) -> InferenceRequest:
    """The request with these inputs. Raises `InvalidRequest` if something is named twice or a parameter is wrong."""
    if len(tensors) > 1:
        refuse_repeated("input", [tensor.name for tensor in tensors])
    outputs: tuple[str, ...] = ()
    if head.outputs:
        if len(head.outputs) > MOST_OUTPUTS:
            raise RequestTooLarge(
                f"the request names {len(head.outputs)} outputs; one request names at most {MOST_OUTPUTS}"
            )
        outputs = tuple([output.name for output in head.outputs])
        refuse_repeated("output", outputs)
    if not head.parameters and not head.outputs:
        return InferenceRequest(tensors, outputs, head.id)
    said = head.parameters or {}
    if len(said) > MAX_PARAMETERS:
        raise too_many_parameters(len(said))
    reply = answer_form_of(head.outputs or (), said)
    said.pop(BINARY_OUTPUTS, None)
    parameters, timeout_s, priority = schedule_of(said) if said else UNSAID
    for name, value in parameters.items():
        check_parameter(name, value)
    return InferenceRequest(tensors, outputs, head.id, parameters, timeout_s, priority, reply=reply)


def check_parameter(name: str, value: ParameterValue) -> None:
    """Raises `InvalidRequest` for a whole number of more than 64 bits, as parameters are stored and passed on."""
    if type(value) is int and not -(2 ** (BITS - 1)) <= value < 2**BITS:
        raise InvalidRequest(
            f"parameter {shown(name)} is a whole number of {value.bit_length()} bits; expected {BITS} at most"
        )
