from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sluice.gateway.dialects.request_bounds import request_bounds
from sluice.gateway.serving.parts_stage import PARTS_A_TURN, PARTS_AT_ONCE, in_parts, joined
from sluice.inference.errors import DeadlineExceeded, QueueFull, RequestTooLarge
from sluice.inference.types import (
    CacheUse,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Signature,
    Tensor,
    TensorSpec,
    Timings,
    Trace,
)

BOUNDS = request_bounds(
    Signature(
        (TensorSpec("x", Datatype.INT64, (None,)),), (TensorSpec("y", Datatype.INT64, (None, None)),), batched=True
    ),
    max_rows=1000,
    max_queue_rows=2000,
    max_answer_bytes=8000,
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
        response = await in_parts(walk, BOUNDS, 30.0)(request, None)
    assert [int(outputs[0].array[0]) for outputs in (response.outputs, *response.parts)] == [10, 20, 30]
    assert all(part.parts == () and part.outputs == ("y",) and part.id == "a" for part in seen)


async def test_a_request_of_one_part_walks_as_it_is() -> None:
    request, response = InferenceRequest(tensor(1)), answer(tensor(2))

    async def walk(walked: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        assert walked is request
        return response

    assert await in_parts(walk, BOUNDS, 30.0)(request, None) is response


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
        await in_parts(walk, BOUNDS, 30.0)(InferenceRequest(tensor(1), parts=(tensor(2), tensor(3))), None)
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

    calling = asyncio.ensure_future(in_parts(walk, BOUNDS, 30.0)(InferenceRequest(tensor(1), parts=(tensor(2),)), None))
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


async def test_all_parts_together_have_as_many_rows_as_one_request() -> None:
    walked: list[int] = []

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        walked.append(request.inputs[0].array.shape[0])
        return answer(tensor(1))

    stage = in_parts(walk, BOUNDS, 30.0)
    rows = (Tensor("x", Datatype.INT64, np.zeros(400, np.int64)),)
    none = (Tensor("x", Datatype.INT64, np.zeros(0, np.int64)),)
    with pytest.raises(RequestTooLarge, match="1200 rows; one request has at most 1000, the lower one"):
        await stage(InferenceRequest(rows, parts=(rows, rows)), None)
    with pytest.raises(RequestTooLarge, match="the request has 1001 rows"):
        await stage(InferenceRequest(none, parts=(none,) * 1000), None)
    assert not walked
    await stage(InferenceRequest(rows, parts=(rows,)), None)
    assert walked == [400, 400]


async def test_many_parts_begin_a_few_at_a_time() -> None:
    begun, most_a_turn, out, most_out = 0, 0, 0, 0
    this_turn = 0

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        nonlocal begun, out, most_out, this_turn, most_a_turn
        begun, out, this_turn = begun + 1, out + 1, this_turn + 1
        most_out, most_a_turn = max(most_out, out), max(most_a_turn, this_turn)
        for _ in range(100):
            await asyncio.sleep(0)
        out -= 1
        return answer(tensor(number_of(request)))

    async def beside() -> None:
        nonlocal this_turn
        while True:
            this_turn = 0
            await asyncio.sleep(0)

    neighbour = asyncio.ensure_future(beside())
    request = InferenceRequest(tensor(0), parts=tuple([tensor(number) for number in range(1, 999)]))
    response = await in_parts(walk, BOUNDS, 30.0)(request, None)
    neighbour.cancel()
    assert begun == 999
    assert most_out <= PARTS_AT_ONCE
    assert most_a_turn <= PARTS_A_TURN
    assert [int(outputs[0].array[0]) for outputs in (response.outputs, *response.parts)] == list(range(999))


async def test_parts_have_one_deadline() -> None:
    left_s: list[float] = []

    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        assert request.timeout_s is not None
        left_s.append(request.timeout_s)
        return answer(tensor(1))

    await in_parts(walk, BOUNDS, 30.0)(InferenceRequest(tensor(1), parts=(tensor(2),), timeout_s=50.0), None)
    assert left_s[0] <= 30.0
    assert left_s[1] <= left_s[0]
    with pytest.raises(DeadlineExceeded):
        await in_parts(walk, BOUNDS, 30.0)(InferenceRequest(tensor(1), parts=(tensor(2),), timeout_s=0.0), None)
    assert len(left_s) == 2


async def test_all_answers_together_are_as_large_as_one() -> None:
    async def walk(request: InferenceRequest, trace: Trace | None) -> InferenceResponse:
        return answer((Tensor("y", Datatype.INT64, np.zeros((1, 300), np.int64)),))

    stage = in_parts(walk, BOUNDS, 30.0)
    assert len((await stage(InferenceRequest(tensor(1), parts=(tensor(2),) * 2), None)).parts) == 2
    with pytest.raises(RequestTooLarge, match=r"server\.max_answer_bytes"):
        await stage(InferenceRequest(tensor(1), parts=(tensor(2),) * 3), None)
