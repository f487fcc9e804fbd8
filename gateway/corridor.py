"""The corridor: every stage that a request walks through between its decoding and its encoding.

A stage is `async (InferenceRequest) -> InferenceResponse`, wrapped by the one before it. `corridor` composes them in
walking order. A corridor belongs to one concrete model version, so nothing in it asks which version is meant.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from batching.batcher import Batcher
from inference.errors import InvalidRequest
from inference.padding import Padding
from inference.signature import Intake, row_count, shape_key
from inference.types import Array, Arrays, InferenceRequest, InferenceResponse, Signature, Tensor, TensorSpec, Timings

Stage: TypeAlias = Callable[[InferenceRequest], Awaitable[InferenceResponse]]


class Padder(msgspec.Struct, frozen=True):
    """A model's padding. `on_padded` is told of each request's own and added elements."""

    padding: Padding
    on_padded: Callable[[int, int], None]


class Course(msgspec.Struct, frozen=True):
    """What the stages need to know of a model version. `request_timeout_s` bounds what a caller may ask for."""

    model: str
    version: int
    signature: Signature
    batcher: Batcher
    request_timeout_s: float
    padder: Padder | None = None


def corridor(course: Course) -> Stage:
    """The stages of one model version, first to last."""
    return through_batcher(course)


def through_batcher(course: Course) -> Stage:
    """The innermost stage: admission to the queue, the walk in a batch, and the wanted outputs put into words.

    Raises `InvalidRequest` if the tensors are not what the model takes or an unknown output is wanted, and whatever
    the batcher refuses or fails with.
    """
    signature, batcher, padder = course.signature, course.batcher, course.padder
    all_outputs = tuple([spec.name for spec in signature.outputs])
    intake = Intake(signature)
    specs = {spec.name: spec for spec in signature.outputs}

    async def stage(request: InferenceRequest) -> InferenceResponse:
        arrays, rows, key = intake.take(request.inputs)
        wanted = request.outputs or all_outputs
        if request.outputs:
            _check_outputs(request.outputs, specs)
        cut = None
        if padder is not None:
            arrays, cut = padder.padding.pad(arrays)
            rows, key = row_count(signature, arrays), shape_key(signature, arrays)
            padder.on_padded(cut.own_elements, cut.added_elements)
        timeout_s = course.request_timeout_s
        if request.timeout_s is not None:
            timeout_s = min(timeout_s, request.timeout_s)
        result = await batcher.submit(
            arrays,
            rows,
            (key, wanted),
            wanted,
            time.monotonic() + timeout_s,
            request.priority,
            request.client,
        )
        outputs: Arrays = result.outputs
        if padder is not None and cut is not None:
            outputs = padder.padding.cut(outputs, wanted, cut)
        return InferenceResponse(
            model=course.model,
            version=course.version,
            outputs=tuple([_tensor(specs[name], array) for name, array in zip(wanted, outputs, strict=True)]),
            id=request.id,
            timings=Timings(queue_s=result.queue_s, compute_s=result.compute_s),
            late=result.late,
        )

    return stage


def _tensor(spec: TensorSpec, array: Array) -> Tensor:
    return Tensor(spec.name, spec.datatype, array)


def _check_outputs(wanted: tuple[str, ...], specs: dict[str, TensorSpec]) -> None:
    unknown = [name for name in wanted if name not in specs]
    if unknown:
        raise InvalidRequest(f"unknown output {unknown[0]!r}; the model has {', '.join(map(repr, specs))}")
    if len(set(wanted)) < len(wanted):
        raise InvalidRequest("an output is asked for more than once; name each output once")
