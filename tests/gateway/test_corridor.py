from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gateway.corridor import in_parts, joined
from inference.errors import QueueFull
from inference.types import (
    CacheUse,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Tensor,
    Timings,
    Trace,
)


def tensor(number: int) -> tuple[Tensor, ...]:
    return (Tensor("x", Datatype.INT64, np.array([number], np.int64)),)


def number_of(request: InferenceRequest) -> int:
    return int(request.inputs[0].array[0])


def answer(outputs: tuple[Tensor, ...], **said: object) -> InferenceResponse:
    return InferenceResponse("m", 1, outputs, **said)  # type: ignore[arg-type]  # by their names


async def test_parts_walk_at_the_same_time_and_by_themselves() -> None:
    all_there = asyncio.Barrier(3)
    seen: list[InferenceRequest] = []

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        seen.append(request)
        await all_there.wait()
        return answer(tensor(10 * number_of(request)))

    request = InferenceRequest(tensor(1), outputs=("y",), id="a", parts=(tensor(2), tensor(3)))
    async with asyncio.timeout(10):
        response = await in_parts(walk)(request, None)
    assert [int(outputs[0].array[0]) for outputs in (response.outputs, *response.parts)] == [10, 20, 30]
    assert all(part.parts == () and part.outputs == ("y",) and part.id == "a" for part in seen)


async def test_a_request_of_one_part_walks_as_it_is() -> None:
    request, response = InferenceRequest(tensor(1)), answer(tensor(2))

    async def walk(walked: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        assert walked is request
        return response

    assert await in_parts(walk)(request, None) is response


async def test_the_first_part_to_fail_fails_the_request_and_the_others_are_given_up() -> None:
    given_up: list[int] = []

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        if number_of(request) == 2:
            raise QueueFull("the queue is full", 3.0)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(number_of(request))
            raise
        raise AssertionError

    with pytest.raises(QueueFull) as refused:
        await in_parts(walk)(InferenceRequest(tensor(1), parts=(tensor(2), tensor(3))), None)
    assert refused.value.retry_after_s == 3.0
    assert sorted(given_up) == [1, 3]


async def test_a_client_that_goes_gives_all_parts_up() -> None:
    begun, given_up = asyncio.Barrier(3), []

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        try:
            await begun.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(number_of(request))
            raise
        raise AssertionError

    calling = asyncio.ensure_future(in_parts(walk)(InferenceRequest(tensor(1), parts=(tensor(2),)), None))
    async with asyncio.timeout(10):
        await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert sorted(given_up) == [1, 2]


def test_what_is_said_of_the_whole_is_the_slowest_and_the_sum() -> None:
    one = answer(tensor(1), timings=Timings(1, 5, 1, 5, 1), cached=CacheUse(3, 1), late=True)
    other = answer(tensor(2), timings=Timings(2, 4, 2, 4, 2), cached=CacheUse(2, 2))
    whole = joined([one, other])
    assert whole.timings == Timings(2, 5, 2, 5, 2)
    assert whole.cached == CacheUse(5, 3)
    assert whole.late
    assert whole.recall is None
    assert joined([answer(tensor(1)), answer(tensor(2))]).cached is None
