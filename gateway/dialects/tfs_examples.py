"""`:classify` and `:regress` of TensorFlow Serving: examples of named features in, labels or values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from gateway.dialects import bfloat16
from gateway.dialects.base import Callee
from gateway.dialects.json_forms import shown
from gateway.dialects.json_nested import tensor_from_nested
from gateway.dialects.json_values import nested_json
from gateway.dialects.tfs_body import columns_of, object_of
from inference.errors import InvalidRequest
from inference.types import Array, Datatype, InferenceRequest, InferenceResponse, Tensor, TensorSpec

EXAMPLES, CONTEXT = "examples", "context"
FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})


class Wanted(msgspec.Struct, frozen=True):
    """Which verb it is, and whether its results are classes."""

    verb: str
    classes: bool


CLASSIFY, REGRESS = Wanted("classify", classes=True), Wanted("regress", classes=False)


class Reply(msgspec.Struct, frozen=True, tag="examples"):
    """How results are to be written: with the `labels` of the classes, or as values where they are `None`."""

    labels: Sequence[str] | None


def decode_examples(body: bytes | bytearray, callee: Callee, wanted: Wanted) -> InferenceRequest:
    """The request in a body: features of all examples (`context`), and those of each. Raises `InvalidRequest`."""
    output = _output(callee, wanted)
    members = object_of(body)
    examples, context = members.get(EXAMPLES), members.get(CONTEXT, {})
    if not isinstance(examples, list) or not examples:
        raise InvalidRequest(f"{EXAMPLES!r} is {shown(examples)}; expected a list with an object for each example")
    if not isinstance(context, dict):
        raise InvalidRequest(f"{CONTEXT!r} is {shown(context)}; expected an object of features")
    rows = [context | each if isinstance(each, dict) else each for each in examples]
    columns = columns_of(rows, callee.signature, EXAMPLES)
    tensors = tuple([_feature(spec, columns[spec.name]) for spec in callee.signature.inputs])
    labels = callee.config.labels.get(output.name, ()) if wanted.classes else None
    return InferenceRequest(tensors, (output.name,), reply=Reply(labels))


def results_of(request: InferenceRequest, response: InferenceResponse) -> bytes:
    """The results, one for each example."""
    assert isinstance(request.reply, Reply)
    [tensor] = response.outputs
    array, labels = tensor.array, request.reply.labels
    if labels is None:
        return nested_json(Tensor(tensor.name, tensor.datatype, array.reshape(array.shape[0], -1)[:, 0]))
    scores = bfloat16.to_float32(array) if tensor.datatype is Datatype.BF16 else array
    names = [*labels, *[str(place) for place in range(len(labels), scores.shape[1])]]
    return b"[%b]" % b",".join([_pairs(names, row) for row in scores])


def _pairs(names: Sequence[str], scores: Array) -> bytes:
    numbers = nested_json(Tensor("", Datatype.FP32, np.ascontiguousarray(scores)))[1:-1].split(b",")
    return b"[%b]" % b",".join(
        [b"[%b,%b]" % (orjson.dumps(name), score) for name, score in zip(names, numbers, strict=False)]
    )


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


def _output(callee: Callee, wanted: Wanted) -> TensorSpec:
    """The output that results are made of. Raises `InvalidRequest` if the model has none, or several."""
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
