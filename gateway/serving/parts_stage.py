"""The stage for requests of several parts: their rows have different shapes, so each part is answered by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

from sluice.gateway.dialects.request_bounds import RequestBounds, tensor_bytes
from sluice.inference.errors import DeadlineExceeded
from sluice.inference.types import CacheUse, InferenceRequest, InferenceResponse, Tensor, Timings, Trace

Stage: TypeAlias = Callable[[InferenceRequest, Trace | None], Coroutine[Any, Any, InferenceResponse]]
"""A stage outside of the cache and the batcher: it takes a whole request, with the names of its tensors."""

PARTS_AT_ONCE = 256
"""How many parts of one request are answered at the same time. Others begin as these end."""

PARTS_A_TURN = 8
"""How many parts begin in one turn of the event loop."""


def in_parts(walk: Stage, bounds: RequestBounds, timeout_s: float) -> Stage:
    """Answer the parts of a request by themselves, many at the same time, and join the answers.

    All parts together keep the bounds and the deadline of one request, which is `timeout_s` away unless its caller asks
    for less. The first part that fails makes the request fail, and the others are cancelled.
    """

    def stage(request: InferenceRequest, trace: Trace | None) -> Coroutine[Any, Any, InferenceResponse]:
        return _Parts(walk, bounds, timeout_s, request, trace).run() if request.parts else walk(request, trace)

    return stage


class _Parts:
    """One request of several parts while it is answered."""

    def __init__(
        self, walk: Stage, bounds: RequestBounds, timeout_s: float, request: InferenceRequest, trace: Trace | None
    ) -> None:
        self._walk = walk
        self._bounds = bounds
        self._request = request
        self._trace = trace
        own_s = request.timeout_s
        self._deadline_s = time.monotonic() + (timeout_s if own_s is None else min(timeout_s, own_s))
        self._answers: list[InferenceResponse | None] = [None] * (1 + len(request.parts))
        self._answer_bytes = 0
        self._room = asyncio.Semaphore(PARTS_AT_ONCE)

    async def run(self) -> InferenceResponse:
        """The whole answer. Raises what the first part that fails raises, and `RequestTooLarge`."""
        request = self._request
        self._check_rows(request)
        try:
            async with asyncio.TaskGroup() as group:
                for place, inputs in enumerate((request.inputs, *request.parts)):
                    await self._room.acquire()
                    group.create_task(self._go(place, inputs))
                    if place % PARTS_A_TURN == PARTS_A_TURN - 1:
                        await asyncio.sleep(0)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return joined([answer for answer in self._answers if answer is not None])

    def _check_rows(self, request: InferenceRequest) -> None:
        self._bounds.check_rows(1 + len(request.parts))
        self._bounds.check_rows(sum(map(self._bounds.places, (request.inputs, *request.parts))))

    async def _go(self, place: int, inputs: tuple[Tensor, ...]) -> None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline was over before all parts of the request were taken in")
        part = replace(self._request, inputs=inputs, parts=(), timeout_s=left_s)
        answer = self._answers[place] = await self._walk(part, self._trace)
        self._room.release()
        for array in [tensor.array for tensor in answer.outputs]:
            self._answer_bytes += tensor_bytes(array.reshape(-1), 0, array.size)
        self._bounds.check_outputs(self._answer_bytes)


def joined(answers: Sequence[InferenceResponse]) -> InferenceResponse:
    """The answers to all parts of a request, in order, joined into one."""
    timings = [answer.timings for answer in answers]
    uses = [answer.cached for answer in answers if answer.cached is not None]
    return replace(
        answers[0],
        timings=Timings(
            queue_s=max(each.queue_s for each in timings),
            batch_s=max(each.batch_s for each in timings),
            compute_s=max(each.compute_s for each in timings),
            cache_s=max(each.cache_s for each in timings),
            batch_rows=max(each.batch_rows for each in timings),
        ),
        late=any(answer.late for answer in answers),
        cached=CacheUse(sum(use.rows for use in uses), sum(use.hits for use in uses)) if uses else None,
        recall=None,
        parts=tuple([answer.outputs for answer in answers[1:]]),
    )
