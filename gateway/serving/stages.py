"""The corridor: every stage through which a request goes between its decoding and its encoding.

`corridor` composes the stages from the outermost to the innermost. The outer ones take a request and make it a query:
arrays in the model's own order. Each of the others is `(Query) -> Awaitable[Answer]`, wrapped by the one before it. A
corridor belongs to one concrete model version, so no stage has to ask which version is meant.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from sluice.batching.batcher import Batcher
from sluice.batching.job import JobResult
from sluice.cache.fetch_or_compute import Answer, Compute, uncached
from sluice.cache.turns import Turns, light_steps
from sluice.gateway.dialects.request_bounds import RequestBounds, tensor_bytes
from sluice.gateway.serving.padding_stage import Padder, through_padding
from sluice.gateway.serving.parts_stage import Stage, in_parts
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.inference.errors import DeadlineExceeded, InvalidRequest
from sluice.inference.signature import SignatureCheck, shown_name
from sluice.inference.types import (
    Array,
    Arrays,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Query,
    Signature,
    Tensor,
    TensorSpec,
    Timings,
    Trace,
)

__all__ = ["Stage", "StageContext", "corridor"]

Answering: TypeAlias = Callable[[Query], Awaitable[Answer]]


class StageContext(msgspec.Struct, frozen=True):
    """Everything that the stages know of a model version. `request_timeout_s` bounds what a caller may ask for.

    `turns` are shared by the steps of all large requests, whatever model they are for.
    """

    model: str
    version: int
    signature: Signature
    batcher: Batcher
    request_timeout_s: float
    bounds: RequestBounds
    turns: Turns
    sharing: RowSharing
    padder: Padder | None = None


def corridor(context: StageContext) -> Stage:
    """The stages of one model version, composed."""
    compute = through_padding(context.padder, context.signature, context.turns, through_batcher(context))
    walk = taken_in(context, through_cache(context, compute))
    return in_parts(walk, context.bounds, context.request_timeout_s)


def taken_in(context: StageContext, answer: Answering) -> Stage:
    """Make a request, or a part of one, a query, and its answer a response.

    The number of rows is checked before any work that grows with it. Raises `RequestTooLarge` for too many rows and for
    an answer that is too large, `InvalidRequest` if the tensors are not what the model takes or an unknown output is
    wanted, and `DeadlineExceeded` if the deadline has passed already.
    """
    intake, bounds = SignatureCheck(context.signature), context.bounds
    specs = {spec.name: spec for spec in context.signature.outputs}
    all_outputs = tuple(specs)
    sharing = context.sharing
    cached = sharing.cache is not None
    sure_rows, all_known = bounds.sure_rows, bounds.knows(all_outputs)
    has_texts = any([spec.datatype is Datatype.BYTES for spec in context.signature.inputs])

    async def stage(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        arrays, rows, key = intake.take(request.inputs)
        wanted = request.outputs or all_outputs
        if rows > sure_rows or request.outputs or request.parameters or has_texts:
            _check(request, arrays, rows, wanted, bounds, specs)
        timeout_s = context.request_timeout_s
        if request.timeout_s is not None:
            if request.timeout_s <= 0:
                raise DeadlineExceeded("the deadline had passed before the request was taken in")
            timeout_s = min(timeout_s, request.timeout_s)
        taken_in_s = time.monotonic()
        query = Query(
            arrays,
            rows,
            key,
            wanted,
            taken_in_s + timeout_s,
            request.parameters,
            request.priority,
            request.client,
            request.caching,
            trace,
            request.came_s,
        )
        before = sharing.cache
        result = await answer(query)
        if sharing.cache is not before and not _ran_alone(result, rows):
            result = await answer(query)  # rows were found to influence each other meanwhile
        if not (all_known or bounds.knows(wanted)):
            bounds.check_outputs(await _size_bytes(result.outputs, context.turns, query.deadline_s))
        return InferenceResponse(
            model=context.model,
            version=context.version,
            outputs=tuple([_tensor(specs[name], array) for name, array in zip(wanted, result.outputs, strict=True)]),
            id=request.id,
            timings=Timings(
                result.queue_s,
                result.batch_s,
                result.compute_s,
                # The rest of the time. For a large request, the slowest wait and the slowest batch may add up to more.
                max(0.0, time.monotonic() - taken_in_s - result.queue_s - result.batch_s) if cached else 0.0,
                result.batch_rows,
            ),
            late=result.late,
            cached=result.cached,
            recall=result.recall,
        )

    return stage


def through_cache(context: StageContext, compute: Compute) -> Answering:
    """Answer rows from the cache if it has them, without queueing. Only the others go on."""
    sharing = context.sharing
    if sharing.cache is None:

        async def passing_by(query: Query) -> Answer:
            return uncached(await compute(query), None)

        return passing_by

    def stage(query: Query) -> Coroutine[Any, Any, Answer]:
        cache = sharing.cache
        assert cache is not None
        return cache.answer(query, compute)

    return stage


def through_batcher(context: StageContext) -> Compute:
    """The innermost stage: admission to the queue, and the run in a batch. Raises what `Batcher.submit` raises."""
    submit = context.batcher.submit

    def stage(query: Query) -> Awaitable[JobResult]:
        return submit(
            query.inputs,
            query.rows,
            (query.shape_key, query.outputs),
            query.outputs,
            query.deadline_s,
            query.priority,
            query.client,
            query.trace,
            query.came_s,
        )

    return stage


def _ran_alone(answer: Answer, rows: int) -> bool:
    """Whether all rows of an answer were computed in one run that had no other rows.

    For answers without a cache this is always true here: the batcher itself runs such requests again.
    """
    use = answer.cached
    return use is None or (not use.hits and answer.batch_rows == rows)


async def _size_bytes(outputs: Arrays, turns: Turns, deadline_s: float) -> int:
    """The memory that the outputs take. Elements of BYTES are counted one by one, in steps."""
    size_bytes = 0
    for array in outputs:
        if not array.dtype.hasobject:
            size_bytes += array.nbytes
            continue
        flat = array.reshape(-1)
        for start, stop in light_steps(flat.size):
            if start:
                await turns.next(deadline_s)
            size_bytes += tensor_bytes(flat, start, stop)
    return size_bytes


def _tensor(spec: TensorSpec, array: Array) -> Tensor:
    return Tensor(spec.name, spec.datatype, array)


def _check(
    request: InferenceRequest,
    arrays: Arrays,
    rows: int,
    wanted: tuple[str, ...],
    bounds: RequestBounds,
    specs: dict[str, TensorSpec],
) -> None:
    bounds.check_rows(rows)
    bounds.check_texts(arrays)
    if request.outputs:
        _check_outputs(request.outputs, specs)
    bounds.check_parameters(request.parameters)
    bounds.check_answer(rows, wanted)


def _check_outputs(wanted: tuple[str, ...], specs: dict[str, TensorSpec]) -> None:
    unknown = next((name for name in wanted if name not in specs), None)
    if unknown is not None:
        raise InvalidRequest(f"unknown output {shown_name(unknown)}; the model has {', '.join(map(repr, specs))}")
    if len(wanted) > len(specs) or len(set(wanted)) < len(wanted):
        raise InvalidRequest("an output is asked for more than once; name each output once")
