"""`:classify` and `:regress` of TensorFlow Serving: examples of named features in, labels or values out."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import orjson

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.body_bounds import check_rows
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.json_nested import parsed_json, tensor_from_nested
from sluice.gateway.dialects.formats.json_pieces import PIECES_FROM_BYTES
from sluice.gateway.dialects.formats.json_reference import NotJson
from sluice.gateway.dialects.formats.json_rows import tensors_from_rows
from sluice.gateway.dialects.formats.json_values import nested_in_steps, nested_json
from sluice.gateway.dialects.formats.json_views import begins_with_object, members_of
from sluice.gateway.dialects.formats.slices import Text, rows_at_a_time
from sluice.gateway.dialects.tfs.body import check_signature_name, columns_of, object_of
from sluice.gateway.dialects.tfs.tape import SIGNATURE_NAME
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, InferenceRequest, InferenceResponse, Signature, Tensor, TensorSpec

EXAMPLES, CONTEXT = "examples", "context"
FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})


class WantedResults(msgspec.Struct, frozen=True):
    """A verb, and whether its results are classes."""

    verb: str
    classes: bool


CLASSIFY, REGRESS = WantedResults("classify", classes=True), WantedResults("regress", classes=False)


class ResultsAnswerForm(msgspec.Struct, frozen=True, tag="examples"):
    """How results are written: with the `labels` of the classes, or as values if there are none (`None`)."""

    labels: Sequence[str] | None


def decode_examples(body: bytes | bytearray, callee: Callee, wanted: WantedResults) -> InferenceRequest:
    """The request in a body, which has the features of each example, and in `context` those that all share.

    Raises `InvalidRequest` and `RequestTooLarge`.
    """
    output = _output(callee, wanted)
    labels = callee.config.labels.get(output.name, ()) if wanted.classes else None
    reply = ResultsAnswerForm(tuple(labels) if labels is not None else None)
    if len(body) >= PIECES_FROM_BYTES:
        with suppress(NotJson):
            return InferenceRequest(_long_features(memoryview(body), callee), (output.name,), reply=reply)
    members = object_of(body)
    examples, context = members.get(EXAMPLES), members.get(CONTEXT, {})
    if not isinstance(examples, list) or not examples:
        raise InvalidRequest(f"{EXAMPLES!r} is {shown(examples)}; expected a list with an object for each example")
    check_rows(EXAMPLES, len(examples), callee.rows_bound)
    return InferenceRequest(_features(examples, context, callee.signature), (output.name,), reply=reply)


def _long_features(body: memoryview, callee: Callee) -> tuple[Tensor, ...]:
    """The features in a long body, a piece at a time. Raises `NotJson` also for JSON that cannot be cut into pieces."""
    members = members_of(body, (EXAMPLES, CONTEXT, SIGNATURE_NAME))
    check_signature_name(members.get(SIGNATURE_NAME))
    examples = members.get(EXAMPLES)
    if examples is None or not begins_with_object(examples):
        raise InvalidRequest(f"{EXAMPLES!r} is no list of objects; expected one for each example")
    context = parsed_json(bytes(members[CONTEXT])) if CONTEXT in members else {}
    signature = callee.signature
    return tensors_from_rows(
        signature.inputs, examples, callee.rows_bound, lambda rows: _features(rows, context, signature)
    )


def _features(examples: list[Any], context: Any, signature: Signature) -> tuple[Tensor, ...]:
    if not isinstance(context, dict):
        raise InvalidRequest(f"{CONTEXT!r} is {shown(context)}; expected an object of features")
    rows = [context | each if isinstance(each, dict) else each for each in examples]
    columns = columns_of(rows, signature, EXAMPLES)
    return tuple([_feature(spec, columns[spec.name]) for spec in signature.inputs])


def results_in_steps(request: InferenceRequest, response: InferenceResponse) -> Generator[None, None, bytes]:
    """The results, one for each example. Raises `InvalidRequest` if the model gave another number of rows."""
    assert isinstance(request.reply, ResultsAnswerForm)
    [tensor] = response.outputs
    array, labels = tensor.array, request.reply.labels
    rows = len(request.inputs[0].array)
    if array.shape[:1] != (rows,) or 0 in array.shape[1:] or (labels is not None and array.ndim != 2):
        raise InvalidRequest(
            f"output {shown(tensor.name)} has the shape {list(array.shape)} for {rows} examples; results need "
            + ("a value for each" if labels is None else "a list of scores for each")
            + ": use :predict with 'inputs'"
        )
    if labels is None:
        values = array.reshape(array.shape[0], math.prod(array.shape[1:]))[:, 0]
        return (yield from nested_in_steps(Tensor(tensor.name, tensor.datatype, values)))
    names = [orjson.dumps(each) for each in (*labels, *map(str, range(len(labels), array.shape[1])))]
    text = Text()
    for part in rows_at_a_time(len(array), array.shape[1]):
        scores = bfloat16.as_numbers(tensor.datatype, array[part])
        for row in scores:
            text.add(_pairs(names, row))
        yield
    return b"[%b]" % text.joined(b",")


def _pairs(names: Sequence[bytes], scores: Array) -> bytes:
    numbers = nested_json(Tensor("", Datatype.FP32, np.ascontiguousarray(scores)))[1:-1].split(b",")
    return b"[%b]" % b",".join([b"[%b,%b]" % (name, score) for name, score in zip(names, numbers, strict=False)])


def _feature(spec: TensorSpec, values: list[Any]) -> Tensor:
    """One feature of all examples. A single value and a list of one are the same, as in `tf.Example`."""
    tensor = tensor_from_nested(spec, [each if isinstance(each, list) else [each] for each in values])
    wanted = [size if size is not None else -1 for size in spec.shape[1:]]
    array = tensor.array
    if array.ndim != len(spec.shape) and wanted.count(-1) <= 1 and array.size:
        try:
            return Tensor(spec.name, spec.datatype, array.reshape(array.shape[0], *wanted))
        except ValueError:
            return tensor
    return tensor


def _output(callee: Callee, wanted: WantedResults) -> TensorSpec:
    """The output with the results. Raises `InvalidRequest` if the model has none that suits, or several."""
    floats = [spec for spec in callee.signature.outputs if spec.datatype in FLOATS and callee.signature.batched]
    if wanted.classes:
        labelled = [spec for spec in floats if spec.name in callee.config.labels and len(spec.shape) == 2]
        fit = labelled or [spec for spec in floats if len(spec.shape) == 2]
    else:
        fit = [spec for spec in floats if len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1)]
    if len(fit) != 1:
        what = "one score for each class: [rows, classes]" if wanted.classes else "one value for each row"
        raise InvalidRequest(
            f"model {callee.name!r} cannot be asked to {wanted.verb}: that needs one output of floats with {what}, and "
            f"it has {len(fit)}; use :predict" + (", or name the classes in [labels]" if wanted.classes else "")
        )
    return fit[0]
