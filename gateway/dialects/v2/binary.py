"""V2 requests and answers with tensors as raw bytes behind the JSON: the binary tensor data extension.

The header `Inference-Header-Content-Length` has the length of the JSON. The bytes of the tensors follow, in the order
in which the JSON lists those that have a `binary_data_size`. With a length of 0, the whole body is the model's only
input.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import numpy as np

from sluice.gateway.dialects.formats.body_bounds import check_rows
from sluice.gateway.dialects.formats.json_forms import element_count, form_of, shown
from sluice.gateway.dialects.formats.json_tensors import tensor_from_json
from sluice.gateway.dialects.formats.raw_tensors import tensor_from_raw
from sluice.gateway.dialects.v2.body import BodyHead, InputHead, request_of
from sluice.gateway.dialects.v2.faults import fault_of
from sluice.gateway.dialects.v2.outputs import V2AnswerForm
from sluice.gateway.dialects.v2.request_checks import check_shape
from sluice.gateway.dialects.v2.shared_memory import refuse_shared_memory
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import STORAGE, Datatype, InferenceRequest, ParameterValue, Signature, Tensor, TensorSpec

BINARY_LENGTH = b"inference-header-content-length"
SIZE = "binary_data_size"
_LENGTH = re.compile(rb"[ \t]*([0-9]{1,18})[ \t]*")


class _Input(InputHead, gc=False):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, ParameterValue] | None = None


class _Body(BodyHead, gc=False, kw_only=True):
    inputs: list[_Input]


_BODY = msgspec.json.Decoder(_Body)


def json_length(value: bytes, body_bytes: int) -> int:
    """The JSON's length in bytes, by the header. Raises `InvalidRequest` for no number, or more than the body has."""
    match = _LENGTH.fullmatch(value)
    if match is None:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {shown(value.decode('latin-1'))}; expected a number of bytes"
        )
    length = int(match[1])
    if length > body_bytes:
        raise InvalidRequest(f"Inference-Header-Content-Length is {length}, but the body has {body_bytes} bytes")
    return length


def decode_binary(
    body: bytes | bytearray, length: int, signature: Signature, max_rows: int | None = None
) -> InferenceRequest:
    """The request in a body whose first `length` bytes are JSON. Numbers are not copied out of the body.

    Raises `InvalidRequest`, naming the input and what was expected, and `RequestTooLarge`.
    """
    raw = memoryview(body).toreadonly()
    if length == 0:
        return _only_input(raw, signature, max_rows)
    text = bytes(raw[:length])
    try:
        parsed = _BODY.decode(text)
    except (ValueError, RecursionError) as error:
        raise fault_of(text, error) from None
    tensors = []
    at = length
    for each in parsed.inputs:
        check_shape(each.name, each.shape, max_rows)
        tensor, at = _tensor(each, raw, at)
        tensors.append(tensor)
    if at != len(raw):
        raise InvalidRequest(
            f"{len(raw) - at} bytes are left behind the inputs; the sizes in {SIZE!r} must add up to all that follows "
            "the JSON"
        )
    return request_of(tuple(tensors), parsed)


def _tensor(each: _Input, raw: memoryview, at: int) -> tuple[Tensor, int]:
    """One input, and the offset at which the next one's bytes begin."""
    form = form_of(each.name, each.datatype)
    size = (each.parameters or {}).get(SIZE)
    if size is None:
        if each.data is msgspec.UNSET:
            refuse_shared_memory(f"input {shown(each.name)}", each.parameters or {})
            raise InvalidRequest(f"input {shown(each.name)} has neither data nor the parameter {SIZE!r}")
        return tensor_from_json(each.name, form, each.shape, each.data), at
    if each.data is not msgspec.UNSET:
        raise InvalidRequest(f"input {shown(each.name)} has data and the parameter {SIZE!r}; expected one of the two")
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"input {shown(each.name)}: {SIZE!r} is {shown(size)}; expected a number of bytes")
    if size > len(raw) - at:
        raise InvalidRequest(
            f"input {shown(each.name)}: {SIZE!r} is {size}, but only {len(raw) - at} bytes of the body are left for it"
        )
    element_count(each.name, each.shape)
    return tensor_from_raw(each.name, form.datatype, each.shape, raw[at : at + size]), at + size


def _only_input(raw: memoryview, signature: Signature, max_rows: int | None) -> InferenceRequest:
    """The body as the model's only input: rows of a known shape, or one string. The answer will be binary as well."""
    if len(signature.inputs) != 1:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is 0, which makes the body the only input; the model has "
            f"{len(signature.inputs)}: send JSON that names them"
        )
    [spec] = signature.inputs
    return InferenceRequest((_whole(spec, raw, signature, max_rows),), reply=V2AnswerForm(binary=True))


def _whole(spec: TensorSpec, raw: memoryview, signature: Signature, max_rows: int | None) -> Tensor:
    own = spec.shape[1:] if signature.batched else spec.shape
    sizes = [size for size in own if size is not None]
    if len(sizes) < len(own):
        shape = ["*" if size is None else size for size in spec.shape]
        raise InvalidRequest(f"input {spec.name!r} has shape {shape}: a body without JSON does not say how long it is")
    if spec.datatype is Datatype.BYTES:
        if math.prod(sizes) != 1:
            raise InvalidRequest(f"input {spec.name!r} takes {math.prod(sizes)} strings; a body without JSON is one")
        element: Any = np.empty((1, *sizes) if signature.batched else tuple(sizes), np.object_)
        element[...] = bytes(raw)
        return Tensor(spec.name, spec.datatype, element)
    row_bytes = math.prod(sizes) * STORAGE[spec.datatype].itemsize
    rows = len(raw) // row_bytes if signature.batched and row_bytes else 1
    check_rows(spec.name, rows, max_rows)
    return tensor_from_raw(spec.name, spec.datatype, (rows, *sizes) if signature.batched else tuple(sizes), raw)
