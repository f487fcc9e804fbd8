"""Answers to bodies that name no tensors: a list with a value for each row, or the value of a single item."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence

import orjson
from msgspec.structs import replace

from sluice.gateway.dialects.base import JSON
from sluice.gateway.dialects.formats import bfloat16
from sluice.gateway.dialects.formats.classes import top_classes
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.formats.json_values import columns_in_steps, nested_json, rows_in_steps
from sluice.gateway.dialects.formats.slices import Text, rows_at_a_time
from sluice.gateway.dialects.untyped.body import OPEN, TFS, BodyForm, UntypedAnswerForm
from sluice.gateway.messages import HttpResponse
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Array, Datatype, InferenceRequest, InferenceResponse, Tensor

TOP_CLASSES = 5
"""The number of classes that TorchServe's image classifier answers with."""

Labels = Mapping[str, Sequence[str]]


def answer_in_steps(
    request: InferenceRequest, response: InferenceResponse, labels: Labels
) -> Generator[None, None, HttpResponse]:
    """The answer in the form of the request. Raises `InvalidRequest` if an output cannot be written as JSON.

    Instead of an output with `labels` it has an object of the five highest classes, the highest first.
    """
    wanted = request.reply
    assert isinstance(wanted, UntypedAnswerForm)
    if wanted.form is BodyForm.V2:
        return (yield from OPEN.encode_in_steps(replace(request, reply=wanted.inner), response))
    if wanted.form is BodyForm.TFS:
        return (yield from TFS.encode_in_steps(replace(request, reply=wanted.inner), response))
    outputs = response.outputs
    if not wanted.batched:
        return HttpResponse(200, (yield from columns_in_steps(outputs)), JSON)
    rows = _common_rows(outputs, 1 if wanted.form is BodyForm.ITEM else None)
    if labels:
        text = yield from _labelled_in_steps(outputs, labels, whole=wanted.form is not BodyForm.ITEM)
    elif wanted.form is BodyForm.ITEM:
        text = yield from columns_in_steps([Tensor(each.name, each.datatype, each.array[0, ...]) for each in outputs])
    else:
        text = yield from rows_in_steps(outputs, rows)
    return HttpResponse(200, text, JSON)


def _common_rows(outputs: Sequence[Tensor], wanted: int | None) -> int:
    """The common length of all outputs, and `wanted` if that is given. Raises `InvalidRequest` for any other length.

    A batched model whose requests run alone may give another number of rows than its inputs have.
    """
    rows = wanted
    for each in outputs:
        shape = each.array.shape
        if not shape or rows not in (None, shape[0]):
            expected = "rows" if rows is None else "one row" if rows == 1 else f"{rows} rows"
            raise InvalidRequest(
                f"output {shown(each.name)} has the shape {list(shape)}, and expected are {expected}, which is what "
                "this protocol tells; ask in that of TensorFlow Serving, with 'inputs', or in V2"
            )
        rows = shape[0]
    return rows or 0


def _labelled_in_steps(outputs: Sequence[Tensor], labels: Labels, *, whole: bool) -> Generator[None, None, bytes]:
    """A list of all rows if `whole` is true, or else the first row alone."""
    text, width = Text(), sum([math.prod(each.array.shape[1:]) for each in outputs])
    for part in rows_at_a_time(len(outputs[0].array) if whole else 1, width):
        for row in _labelled_rows([Tensor(each.name, each.datatype, each.array[part]) for each in outputs], labels):
            text.add(row)
        yield
    return b"[%b]" % text.joined(b",") if whole else text.joined()


def _labelled_rows(outputs: Sequence[Tensor], labels: Labels) -> list[bytes]:
    columns = {each.name: _column(each, labels.get(each.name, ())) for each in outputs}
    if len(columns) == 1:
        return next(iter(columns.values()))
    names = [orjson.dumps(name) for name in columns]
    rows = zip(*columns.values(), strict=True)
    return [b"{%b}" % b",".join([b"%b:%b" % pair for pair in zip(names, row, strict=True)]) for row in rows]


def _column(tensor: Tensor, labels: Sequence[str]) -> list[bytes]:
    rows = [Tensor(tensor.name, tensor.datatype, tensor.array[row, ...]) for row in range(tensor.array.shape[0])]
    if not labels or tensor.array.ndim != 2 or tensor.datatype is Datatype.BYTES:
        return [nested_json(row) for row in rows]
    places = top_classes(bfloat16.as_numbers(tensor.datatype, tensor.array), TOP_CLASSES)
    return [_classes(row, chosen, labels) for row, chosen in zip(rows, places, strict=True)]


def _classes(row: Tensor, places: Array, labels: Sequence[str]) -> bytes:
    """An object of classes and their values. Of classes with equal names it has the highest one."""
    values = nested_json(Tensor(row.name, row.datatype, row.array[places]))[1:-1].split(b",")
    told: dict[bytes, bytes] = {}
    for place, value in zip(places.tolist(), values, strict=True):
        told.setdefault(orjson.dumps(labels[place] if place < len(labels) else str(place)), value)
    return b"{%b}" % b",".join([b"%b:%b" % pair for pair in told.items()])
