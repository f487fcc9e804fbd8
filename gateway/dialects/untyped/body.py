"""Bodies of protocols that name neither tensors nor shapes, such as TorchServe's and SageMaker's.

A value with as many axes as the input is a list of rows. A value with one axis less is an item: it becomes a single
row, and its answer is a single value. A file is an item, too: an image, or the bytes of a string. A body in the form of
another protocol is read and answered by that one: `{"instances": …}` and `{"inputs": …}` by TensorFlow Serving's, V2's
list of tensors by V2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

import msgspec
import numpy as np

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.formats.body_bounds import check_rows_of_each, check_structure
from sluice.gateway.dialects.formats.json_forms import listed
from sluice.gateway.dialects.formats.json_nested import (
    TEXT_FROM_BYTES,
    is_b64,
    parsed_json,
    tensor_from_nested,
    tensor_from_text,
)
from sluice.gateway.dialects.formats.json_pieces import PIECES_FROM_BYTES
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.gateway.dialects.formats.json_rows import column_of, tensor_from_list
from sluice.gateway.dialects.formats.json_views import begins_with_b64, is_list, is_object, members_of, names_a_datatype
from sluice.gateway.dialects.formats.npy import MAGIC, tensor_from_npy
from sluice.gateway.dialects.tfs import body as tfs_body
from sluice.gateway.dialects.tfs.codec import TfsPredict
from sluice.gateway.dialects.v2 import outputs as v2_outputs
from sluice.gateway.dialects.v2.codec import V2
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, InferenceRequest, Signature, Tensor, TensorSpec

TFS, OPEN = TfsPredict(), V2()
ENVELOPES = frozenset({"instances", "inputs"})
_ENVELOPE = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"(?:instances|inputs)"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*[\[0-9-]')
_OPENING = re.compile(rb"[ \t\r\n]*([\[{])")
_LIST = re.compile(rb"[ \t\r\n]*\[")


class BodyForm(Enum):
    """The form of a request, and of its answer."""

    ITEM = "item"
    ROWS = "rows"
    TFS = "tfs"
    V2 = "v2"


class UntypedAnswerForm(msgspec.Struct, frozen=True, tag="item"):
    """What the answer needs to know of the request. `inner` is the `reply` of the codec that read it, TFS or V2.

    Outputs of a model that is not `batched` are written whole.
    """

    form: BodyForm
    inner: v2_outputs.V2AnswerForm | tfs_body.PredictAnswerForm | None = None
    batched: bool = True


AN_ITEM, ROWS = UntypedAnswerForm(BodyForm.ITEM), UntypedAnswerForm(BodyForm.ROWS)
WHOLE = UntypedAnswerForm(BodyForm.ROWS, batched=False)


def looks_like_json(body: bytes | bytearray) -> bool:
    """Whether a body begins as a JSON list or object does."""
    return _OPENING.match(body) is not None


def request_from_json(body: bytes | bytearray, callee: Callee) -> InferenceRequest:
    """The request in a JSON body; its reply is an `UntypedAnswerForm`. Raises `InvalidRequest`."""
    signature = callee.signature
    check_structure(body, callee.signature, callee.max_rows)
    if len(body) >= PIECES_FROM_BYTES:
        with suppress(NotJson):
            return _long_request(body, callee)
    elif len(body) >= TEXT_FROM_BYTES:
        if _ENVELOPE.match(body):
            return _as_form(TFS.decode(body, (), callee), BodyForm.TFS)
        if len(signature.inputs) == 1 and _LIST.match(body):
            tensor = tensor_from_text(signature.inputs[0], bytes(body))
            if tensor is not None:
                return _of_value(tensor, callee)
    value = parsed_json(body)
    if isinstance(value, dict) and not is_b64(value):
        if not ENVELOPES.isdisjoint(value):
            if _is_v2(value):
                return _as_form(OPEN.decode(body, (), callee), BodyForm.V2)
            return _as_form(TFS.decode(body, (), callee), BodyForm.TFS)
        return _of_values(_by_name(value, signature), callee)
    return _of_value(tensor_from_nested(only_input(signature), value), callee)


def request_from_npy(body: bytes | bytearray, callee: Callee) -> InferenceRequest:
    """The request in an `.npy` file. Raises `InvalidRequest`."""
    return _of_value(tensor_from_npy(only_input(callee.signature), body, callee.rows_bound), callee)


def request_from_files(files: Mapping[str, bytes | bytearray], callee: Callee) -> InferenceRequest:
    """The request in files, by the input's name: images, strings, JSON or `.npy`. Raises `InvalidRequest`."""
    signature = callee.signature
    specs = {spec.name: spec for spec in signature.inputs}
    if files.keys() != specs.keys():
        raise InvalidRequest(f"the body has {listed(files) or 'nothing'}; expected {', '.join(map(repr, specs))}")
    return _of_values({name: tensor_from_file(spec, files[name], callee) for name, spec in specs.items()}, callee)


def tensor_from_file(spec: TensorSpec, content: bytes | bytearray, callee: Callee) -> Tensor:
    """One input from one file. Raises `InvalidRequest`, and `RequestTooLarge` for an image beyond its bound."""
    reader = callee.images.get(spec.name)
    if reader is not None and not looks_like_json(content) and not content.startswith(MAGIC):
        return _item(reader.read(content), callee.signature)
    if spec.datatype is Datatype.BYTES:
        return _one_string(spec, content, callee.signature)
    if content.startswith(MAGIC):
        return tensor_from_npy(spec, content, callee.rows_bound)
    return _tensor_from_json(spec, content, callee)


def _tensor_from_json(spec: TensorSpec, content: bytes | bytearray, callee: Callee) -> Tensor:
    check_structure(content, callee.signature, callee.max_rows)
    text = memoryview(content)[len(content) - len(content.lstrip(b" \t\r\n")) :]
    if len(content) >= PIECES_FROM_BYTES and is_list(text):
        with suppress(NotJson):
            return tensor_from_list(spec, text, None)
    return tensor_from_nested(spec, parsed_json(content))


def only_input(signature: Signature) -> TensorSpec:
    """The input that a value without a name is for. Raises `InvalidRequest` if there are several."""
    if len(signature.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in signature.inputs)
        raise InvalidRequest(f"the body does not say which input it is for; the model has {names}: name each of them")
    return signature.inputs[0]


def _long_request(body: bytes | bytearray, callee: Callee) -> InferenceRequest:
    """As `request_from_json`, a piece at a time. Raises `NotJson` also for JSON that cannot be cut into pieces."""
    signature, max_rows = callee.signature, callee.rows_bound
    text = memoryview(body)[len(body) - len(body.lstrip(b" \t\r\n")) :]
    if is_list(text):
        spec = only_input(signature)
        return _of_value(tensor_from_list(spec, text, None), callee)
    if begins_with_b64(text) or not is_object(text):
        return _of_value(tensor_from_nested(only_input(signature), parsed_json(body)), callee)
    members = members_of(text, tuple(sorted(ENVELOPES)))
    if members:
        if "inputs" in members and names_a_datatype(members["inputs"]):
            return _as_form(OPEN.decode(body, (), callee), BodyForm.V2)
        return _as_form(TFS.decode(body, (), callee), BodyForm.TFS)
    specs = {spec.name: spec for spec in signature.inputs}
    columns = members_of(text, tuple(specs), exactly=True)
    return _of_values({name: column_of(spec, columns[name], max_rows) for name, spec in specs.items()}, callee)


def _of_value(tensor: Tensor, callee: Callee) -> InferenceRequest:
    """As `_of_values`, for a model with one input."""
    signature = callee.signature
    if not signature.batched:
        return InferenceRequest((tensor,), reply=WHOLE)
    if tensor.array.ndim == len(signature.inputs[0].shape) - 1:
        return InferenceRequest((Tensor(tensor.name, tensor.datatype, tensor.array[None]),), reply=AN_ITEM)
    check_rows_of_each((tensor,), callee.max_rows)
    return InferenceRequest((tensor,), reply=ROWS)


def _of_values(tensors: Mapping[str, Tensor], callee: Callee) -> InferenceRequest:
    """The request with these tensors: as a single row if all of them have one axis less than the inputs, else as rows.

    Raises `RequestTooLarge` for too many rows.
    """
    signature = callee.signature
    ordered = [tensors[spec.name] for spec in signature.inputs]
    if not signature.batched:
        return InferenceRequest(tuple(ordered), reply=WHOLE)
    if all([tensor.array.ndim == len(spec.shape) - 1 for tensor, spec in zip(ordered, signature.inputs, strict=True)]):
        rows = tuple([Tensor(each.name, each.datatype, each.array[None]) for each in ordered])
        return InferenceRequest(rows, reply=AN_ITEM)
    check_rows_of_each(ordered, callee.max_rows)
    return InferenceRequest(tuple(ordered), reply=ROWS)


def _by_name(value: dict[str, Any], signature: Signature) -> dict[str, Tensor]:
    specs = {spec.name: spec for spec in signature.inputs}
    if value.keys() != specs.keys():
        raise InvalidRequest(
            f"the body has {listed(value) or 'no members'}; expected {', '.join(map(repr, specs))}, or "
            "'instances', a list of rows"
        )
    return {name: tensor_from_nested(spec, value[name]) for name, spec in specs.items()}


def _is_v2(value: dict[str, Any]) -> bool:
    """Whether `inputs` is a list of V2's tensors, which have datatypes."""
    inputs = value.get("inputs")
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], dict) and "datatype" in inputs[0]


def _as_form(request: InferenceRequest, form: BodyForm) -> InferenceRequest:
    inner = request.reply
    assert inner is None or isinstance(inner, v2_outputs.V2AnswerForm | tfs_body.PredictAnswerForm)
    return msgspec.structs.replace(request, reply=UntypedAnswerForm(form, inner))


def _item(row: Tensor, signature: Signature) -> Tensor:
    """A single row without the axis of rows, if the model is batched."""
    return Tensor(row.name, row.datatype, row.array[0]) if signature.batched else row


def _one_string(spec: TensorSpec, content: bytes | bytearray, signature: Signature) -> Tensor:
    own = spec.shape[1:] if signature.batched else spec.shape
    if any(size not in (None, 1) for size in own):
        raise InvalidRequest(f"input {spec.name!r} takes more than one string; send a JSON list of them")
    element: Array = np.empty([1] * len(own), np.object_)
    element[...] = bytes(content)
    return Tensor(spec.name, spec.datatype, element)
