"""The stage that pads inputs of varying length so that they can share a batch, and cuts the outputs back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace

from sluice.batching.job import JobResult
from sluice.cache.fetch_or_compute import Compute, Computed
from sluice.cache.joining import contiguous
from sluice.cache.turns import STEP_BYTES, Turns, steps
from sluice.inference.padding.padding import Cut, Padding
from sluice.inference.signature import row_count, shape_key
from sluice.inference.types import Arrays, Query, Signature


class Padder(msgspec.Struct, frozen=True):
    """A model's padding. `on_padded` is called with the numbers of each request's own and added elements."""

    padding: Padding
    on_padded: Callable[[int, int], None]


def through_padding(padder: Padder | None, signature: Signature, turns: Turns, compute: Compute) -> Compute:
    """Pad inputs so that they can share a batch, and cut outputs back.

    Padding may turn a small request into a large one. So large ones of a model are padded one at a time, in steps;
    afterwards they count in the queue. Raises what `Padding.measure` raises, and `DeadlineExceeded`.
    """
    if padder is None:
        return compute
    padding, on_padded = padder.padding, padder.on_padded
    one_at_a_time = asyncio.Lock()

    def submitted(query: Query, inputs: Arrays) -> Awaitable[Computed]:
        rows, key = row_count(signature, inputs), shape_key(signature, inputs)
        return compute(replace(query, inputs=inputs, rows=rows, shape_key=key))

    async def submitted_in_steps(query: Query, cut: Cut, size_bytes: int) -> Awaitable[Computed]:
        async with turns.before(query.deadline_s), one_at_a_time:
            inputs = padding.room(query.inputs, cut)
            for start, stop in steps(query.rows, size_bytes, len(inputs)):
                await turns.next(query.deadline_s)
                padding.fill(query.inputs, inputs, cut, start, stop)
            return submitted(query, inputs)

    async def stage(query: Query) -> Computed:
        cut, size_bytes = padding.measure(query.inputs)
        on_padded(cut.own_elements, cut.added_elements)
        if not cut.is_padded:
            return await compute(query)
        if size_bytes <= STEP_BYTES:
            result = await submitted(query, padding.padded(query.inputs, cut))
        else:
            result = await (await submitted_in_steps(query, cut, size_bytes))
        outputs = await contiguous(padding.views(result.outputs, query.outputs, cut), turns, query.deadline_s)
        return JobResult(outputs, result.queue_s, result.batch_s, result.compute_s, result.batch_rows, result.late)

    return stage
