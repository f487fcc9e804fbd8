"""The corridor: every stage that a request walks through between its decoding and its encoding.

`corridor` composes the stages in walking order. The outermost ones take a request in, which makes it a query: arrays in
the model's own order. Each of the others is `(Query) -> Awaitable[Answer]`, wrapped by the one before it. A corridor
belongs to one concrete model version, so nothing in it asks which version is meant.
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
    """What the stages need to know of a model version. `request_timeout_s` bounds what a caller may ask for.

    `turns` are those that the steps of all large requests take, whatever model they are for.
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
    """The stages of one model version, first to last."""
    compute = through_padding(context.padder, context.signature, context.turns, through_batcher(context))
    walk = taken_in(context, through_cache(context, compute))
    return in_parts(walk, context.bounds, context.request_timeout_s)


def taken_in(context: StageContext, answer: Answering) -> Stage:
    """A request, or a part of one, becomes a query, and the answer is put into words.

    Nothing is done for each row before it is known that they are not too many. Raises `RequestTooLarge` for these and
    for an answer that is too large, `InvalidRequest` if the tensors are not what the model takes or an unknown output
    is wanted, and `DeadlineExceeded` if its time was over before.
    """
    intake, bounds = SignatureCheck(context.signature), context.bounds
    specs = {spec.name: spec for spec in context.signature.outputs}
    all_outputs = tuple(specs)
    sharing = context.sharing
    cached = sharing.cache is not None
    sure_rows, all_known = bounds.sure_rows, bounds.knows(all_outputs)
    has_texts = any([spec.datatype is Datatype.BYTES for spec in context.signature.inputs])

    def check(request: InferenceRequest, arrays: Arrays, rows: int, wanted: tuple[str, ...]) -> None:
        bounds.check_rows(rows)
        bounds.check_texts(arrays)
        if request.outputs:
            _check_outputs(request.outputs, specs)
        bounds.check_parameters(request.parameters)
        bounds.check_answer(rows, wanted)

    async def stage(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        arrays, rows, key = intake.take(request.inputs)
        wanted = request.outputs or all_outputs
        if rows > sure_rows or request.outputs or request.parameters or has_texts:
            check(request, arrays, rows, wanted)
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
            result = await answer(query)  # meanwhile it was found out that rows influence each other
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
                # All that is left. The slowest wait and the slowest batch of a large request may add up to more.
                max(0.0, time.monotonic() - taken_in_s - result.queue_s - result.batch_s) if cached else 0.0,
                result.batch_rows,
            ),
            late=result.late,
            cached=result.cached,
            recall=result.recall,
        )

    return stage


def through_cache(context: StageContext, compute: Compute) -> Answering:
    """Rows that were answered before are answered at once, without queueing; the others go on."""
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
    """The innermost stage: admission to the queue, and the walk in a batch. Raises whatever the batcher raises."""
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
    """Whether the model gave all rows of an answer in one run, and nothing else in it; of one that is not cached, yes.

    The batcher sees to the latter.
    """
    use = answer.cached
    return use is None or (not use.hits and answer.batch_rows == rows)


async def _size_bytes(outputs: Arrays, turns: Turns, deadline_s: float) -> int:
    """What the outputs take, with the content of BYTES, which has to be looked at element by element."""
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


def _check_outputs(wanted: tuple[str, ...], specs: dict[str, TensorSpec]) -> None:
    unknown = next((name for name in wanted if name not in specs), None)
    if unknown is not None:
        raise InvalidRequest(f"unknown output {shown_name(unknown)}; the model has {', '.join(map(repr, specs))}")
    if len(wanted) > len(specs) or len(set(wanted)) < len(wanted):
        raise InvalidRequest("an output is asked for more than once; name each output once")
