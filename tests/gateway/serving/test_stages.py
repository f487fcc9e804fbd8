"""A request between its decoding and the workers: bounds first, then a real cache and a real batcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.dialects.request_bounds import request_bounds
from sluice.gateway.serving.cache_plan import CachePlan
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.serving.stages import StageContext, corridor
from sluice.inference.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge
from sluice.inference.types import (
    Array,
    Arrays,
    BatchResult,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Parameters,
    Signature,
    Tensor,
    TensorSpec,
    Vacancy,
)
from tests.cache.fakes import subject

MAX_ROWS = 2000
MAX_ANSWER_BYTES = 1 << 16
SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (None, None)),),
    (TensorSpec("y", Datatype.FP32, (None, 1)), TensorSpec("z", Datatype.FP32, (None, None))),
    batched=True,
)


class Run:
    """One batch that runs until the test ends it."""

    def __init__(self, parts: Sequence[Arrays]) -> None:
        self.x = np.concatenate([part[0] for part in parts])
        self.end: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()

    def finish_with(self, output: Array) -> None:
        self.end.set_result(BatchResult((output,), 0.0, 0.0))


class Hands:
    """Stands in for the workers, of which one is always idle."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def vacancy(self) -> Vacancy:
        return Vacancy(idle=1, spare=0, workers=1)

    async def run(self, parts: Sequence[Arrays], outputs: Sequence[str], limit_s: float) -> BatchResult:
        self.runs.append(Run(parts))
        return await self.runs[-1].end


class Ways:
    """One version, from the corridor to where the workers would be."""

    def __init__(self, hands: Hands, batcher: Batcher, cache: Cache, *, cached: bool) -> None:
        self.hands, self.cache = hands, cache
        kept = replace(subject(signature=SIGNATURE), max_answer_bytes=MAX_ANSWER_BYTES)
        sharing = RowSharing(batched=True, cache_plan=CachePlan(cached, "row", ""))
        if cached:
            sharing.cache = cache.of_model(kept)
        bounds = request_bounds(SIGNATURE, max_rows=10**6, max_queue_rows=MAX_ROWS, max_answer_bytes=MAX_ANSWER_BYTES)
        self.walk = corridor(StageContext("m", 1, SIGNATURE, batcher, 30.0, bounds, cache.turns, sharing))

    def ask(self, x: Array, outputs: tuple[str, ...] = ("y",), **more: Any) -> asyncio.Task[InferenceResponse]:
        request = InferenceRequest((Tensor("x", Datatype.FP32, x),), outputs, **more)
        return asyncio.ensure_future(self.walk(request, None))

    async def run(self) -> Run:
        """The next batch."""
        async with asyncio.timeout(30):
            while not (out := [run for run in self.hands.runs if not run.end.done()]):  # noqa: ASYNC110
                await asyncio.sleep(0)
        return out[0]

    @property
    def looked_up(self) -> int:
        return sum([tier.counts.lookups for model in self.cache.state().models for tier in model.tiers])


@asynccontextmanager
async def ways(*, cached: bool = True) -> AsyncIterator[Ways]:
    hands = Hands()
    limits = BatchLimits(max_rows=MAX_ROWS, max_queue_rows=MAX_ROWS)
    async with (
        Cache(CacheOptions(1 << 24)) as cache,
        Batcher(hands, limits, on_batch=lambda _: None, drain_timeout_s=0.0) as batcher,
    ):
        yield Ways(hands, batcher, cache, cached=cached)


@pytest.mark.parametrize("rows", [MAX_ROWS + 1, 3_000_000, 10**12])
@pytest.mark.parametrize("outputs", [("y",), ("z",), ()])
@pytest.mark.parametrize("cached", [True, False])
async def test_rows_of_no_length_are_counted_before_anything_is_done_for_each(
    rows: int, outputs: tuple[str, ...], cached: bool
) -> None:
    async with ways(cached=cached) as version:
        with pytest.raises(RequestTooLarge, match=f"{rows} rows; one request has at most 2000, the lower one of"):
            await version.ask(np.zeros((rows, 0), np.float32), outputs)
        assert version.looked_up == 0
        assert not version.hands.runs


async def test_equal_rows_are_as_many_as_they_are() -> None:
    """The cache would see them as one row: so a refusal does not depend on the content of the rows."""
    async with ways() as version:
        with pytest.raises(RequestTooLarge, match="2001 rows"):
            await version.ask(np.zeros((MAX_ROWS + 1, 1), np.float32))
        assert version.looked_up == 0


async def test_equal_rows_beside_each_other_give_others_as_many_turns_as_rows_that_differ() -> None:
    async with ways() as version:
        turns = 0

        async def neighbour() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.ensure_future(neighbour())
        took: list[int] = []
        for x in (np.arange(MAX_ROWS, dtype=np.float32), np.full(MAX_ROWS, -1, np.float32)):
            asked = version.ask(x.reshape(-1, 1))
            run = await version.run()
            run.finish_with(2 * run.x)
            await asked
            turns = 0
            again = await version.ask(x.reshape(-1, 1))
            assert again.cached is not None
            assert again.cached.hits == MAX_ROWS
            assert again.outputs[0].array[:, 0].tolist() == (2 * x).tolist()
            took.append(turns)
        beside.cancel()
        assert min(took) >= MAX_ROWS // 256
        assert abs(took[0] - took[1]) <= 2


@pytest.mark.parametrize("cached", [True, False])
async def test_an_answer_of_unknown_size_is_measured(cached: bool) -> None:
    async with ways(cached=cached) as version:
        asked = version.ask(np.arange(4, dtype=np.float32).reshape(4, 1), ("z",))
        (await version.run()).finish_with(np.zeros((4, MAX_ANSWER_BYTES // 16), np.float32))
        assert (await asked).outputs[0].array.nbytes == MAX_ANSWER_BYTES
        asked = version.ask(np.arange(4, 8, dtype=np.float32).reshape(4, 1), ("z",))
        (await version.run()).finish_with(np.zeros((4, MAX_ANSWER_BYTES // 16 + 1), np.float32))
        with pytest.raises(RequestTooLarge, match=r"server\.max_answer_bytes"):
            await asked


async def test_equal_rows_do_not_make_an_answer_of_any_size() -> None:
    """The model computes one row, and the answer would have as many copies of it as were asked for."""
    async with ways() as version:
        asked = version.ask(np.zeros((5, 1), np.float32), ("z",))
        (await version.run()).finish_with(np.zeros((1, MAX_ANSWER_BYTES // 16), np.float32))
        for each in (asked, version.ask(np.zeros((5, 1), np.float32), ("z",))):
            with pytest.raises(RequestTooLarge, match=r"server\.max_answer_bytes"):
                await each
        assert (await version.ask(np.zeros((4, 1), np.float32), ("z",))).outputs[0].array.nbytes == MAX_ANSWER_BYTES
        assert len(version.hands.runs) == 1


async def test_a_deadline_that_is_over_ends_a_request_before_all_of_its_rows_are_looked_up() -> None:
    async with ways() as version:
        with pytest.raises(DeadlineExceeded):
            await version.ask(np.arange(MAX_ROWS, dtype=np.float32).reshape(-1, 1), timeout_s=1e-9)
        assert version.looked_up == 0
        assert not version.hands.runs


@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [({str(number): 1 for number in range(2000)}, RequestTooLarge), ({"p": 1 << 64}, InvalidRequest)],
)
async def test_parameters_that_no_key_can_be_made_of(parameters: Parameters, refusal: type[Exception]) -> None:
    async with ways() as version:
        with pytest.raises(refusal):
            await version.ask(np.zeros((1, 1), np.float32), parameters=parameters)


@pytest.mark.parametrize(
    "wanted", [("n" * 10**6,), ("y", "y"), ("y",) * 10**5, ("y", *[f"o{n}" for n in range(10**5)])]
)
async def test_outputs_that_are_not_there_are_named_in_short(wanted: Sequence[str]) -> None:
    async with ways() as version:
        with pytest.raises(InvalidRequest) as caught:
            await version.ask(np.zeros((1, 1), np.float32), tuple(wanted))
        assert len(str(caught.value)) < 400
