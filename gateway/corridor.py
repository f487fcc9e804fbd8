"""The corridor: every stage that a request walks through between its decoding and its encoding.

A stage is `async (InferenceRequest) -> InferenceResponse`, wrapped by the one before it. `corridor` composes them in
walking order. A corridor belongs to one concrete model version, so nothing in it asks which version is meant.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from batching.batcher import Batcher
from inference.errors import InvalidRequest
from inference.signature import Intake
from inference.types import Array, InferenceRequest, InferenceResponse, Signature, Tensor, TensorSpec, Timings

Stage: TypeAlias = Callable[[InferenceRequest], Awaitable[InferenceResponse]]


def corridor(model: str, version: int, signature: Signature, batcher: Batcher, request_timeout_s: float) -> Stage:
    """The stages of one model version, first to last."""
    return through_batcher(model, version, signature, batcher, request_timeout_s)


def through_batcher(
    model: str, version: int, signature: Signature, batcher: Batcher, request_timeout_s: float
) -> Stage:
    """The innermost stage: admission to the queue, the walk in a batch, and the wanted outputs put into words.

    Raises `InvalidRequest` if the tensors are not what the model takes or an unknown output is wanted, and whatever
    the batcher refuses or fails with.
    """
    all_outputs = tuple([spec.name for spec in signature.outputs])
    intake = Intake(signature)
    specs = {spec.name: spec for spec in signature.outputs}

    async def stage(request: InferenceRequest) -> InferenceResponse:
        arrays, rows, key = intake.take(request.inputs)
        wanted = request.outputs or all_outputs
        if request.outputs:
            _check_outputs(request.outputs, specs)
        result = await batcher.submit(
            arrays,
            rows=rows,
            key=(key, wanted),
            outputs=wanted,
            deadline_s=time.monotonic() + request_timeout_s,
        )
        return InferenceResponse(
            model=model,
            version=version,
            outputs=tuple([_tensor(specs[n], array) for n, array in zip(wanted, result.outputs, strict=True)]),
            id=request.id,
            timings=Timings(queue_s=result.queue_s, compute_s=result.compute_s),
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
