"""Calls, cached answers and Redis at the moment at which rows turn out to influence each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from structlog.testing import capture_logs

from sluice.batching.batcher import Batcher, BatchLimits
from sluice.cache.cache import Cache, CacheOptions
from sluice.cache.remote.redis_link import CacheUnavailable
from sluice.gateway.dialects.request_bounds import request_bounds
from sluice.gateway.serving.audit.examine import AuditFinding
from sluice.gateway.serving.batching_stop import BatchingStop
from sluice.gateway.serving.cache_invalidation import FIRST_PAUSE_S
from sluice.gateway.serving.cache_plan import CachePlan
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.serving.stages import StageContext, corridor
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.types import (
    CacheUse,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Signature,
    Tensor,
    TensorSpec,
)
from tests.batching.fakes import Puppet, column, numbers
from tests.batching.virtual_time import pass_time, quiet
from tests.cache.fakes import subject

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (None, 1)),), (TensorSpec("y", Datatype.FP32, (None, 1)),), batched=True
)
MIXED = AuditFinding(AuditOutcome.MIXED, "y", "a row of output 'y' changes with the rows beside it")


class House:
    """One version from the corridor to the workers' place, with a real cache and a real batcher."""

    def __init__(self, puppet: Puppet, cache: Cache, batcher: Batcher) -> None:
        self.puppet, self.cache = puppet, cache
        self.sharing = RowSharing(batched=True, cache_plan=CachePlan(True, "row", "the model keeps rows apart"))
        self.stop = BatchingStop(self.sharing, cache, "m", 1)
        self.stop.batcher = batcher
        self.stop.cached_model = subject(signature=SIGNATURE)
        self.sharing.cache = cache.of_model(self.stop.cached_model)
        bounds = request_bounds(SIGNATURE, max_rows=1000, max_queue_rows=1000, max_answer_bytes=1 << 20)
        self._walk = corridor(StageContext("m", 1, SIGNATURE, batcher, 30.0, bounds, cache.turns, self.sharing))

    def ask(self, *values: float) -> asyncio.Task[InferenceResponse]:
        request = InferenceRequest((Tensor("x", Datatype.FP32, column(*values)),))
        return asyncio.ensure_future(self._walk(request, None))

    async def answer(self, *factors: float) -> None:
        """End the runs in flight, each with its inputs times the next factor, until there are none."""
        await quiet()
        for factor in factors:
            run = self.puppet.out[0]
            run.finish_with(np.concatenate([part[0] for part in run.parts]) * np.float32(factor))
            await quiet()

    @property
    def runs(self) -> Sequence[object]:
        return [run.values for run in self.puppet.runs]

    @property
    def kept_rows(self) -> int:
        return self.cache.state().entries


@asynccontextmanager
async def house(workers: int = 1) -> AsyncIterator[House]:
    puppet = Puppet(workers, depth=1)
    batcher = Batcher(puppet, BatchLimits(64), on_batch=lambda report: None)
    async with Cache(CacheOptions(1 << 20)) as cache, batcher:
        yield House(puppet, cache, batcher)


def said(call: asyncio.Task[InferenceResponse]) -> list[float]:
    return numbers(call.result().outputs[0].array)


async def test_a_call_with_rows_from_the_cache_is_answered_by_one_run_of_its_own() -> None:
    async with house() as home:
        known = home.ask(1)
        await home.answer(100)  # as it was answered beside another row
        call = home.ask(1, 2)
        await quiet()
        await home.stop.rows_mixed(MIXED)
        await home.answer(10, 3)  # the run in flight, and then the whole call
        assert said(known) == [100]
        assert said(call) == [3, 6]
        assert home.runs == [[[1]], [[2]], [[1, 2]]]
        assert call.result().cached == CacheUse(2, 0)


async def test_calls_in_company_run_once_more_and_no_oftener() -> None:
    async with house() as home:
        calls = [home.ask(1), home.ask(2, 3)]
        await quiet()
        await home.stop.rows_mixed(MIXED)
        await home.answer(100, 1, 1)
        assert [said(call) for call in calls] == [[1], [2, 3]]
        assert home.runs == [[[1], [2, 3]], [[1]], [[2, 3]]]


async def test_a_call_that_follows_another_is_answered_by_a_run_of_its_own() -> None:
    async with house() as home:
        leader = home.ask(1, 2)
        await quiet()
        follower = home.ask(2)
        await quiet()
        await home.stop.rows_mixed(MIXED)
        await home.answer(5, 1)
        assert said(leader) == [5, 10]  # it was alone and whole
        assert said(follower) == [2]
        assert home.runs == [[[1, 2]], [[2]]]


async def test_nothing_that_was_begun_before_is_kept_and_nothing_old_is_found() -> None:
    async with house(workers=2) as home:
        old = home.ask(7)
        await home.answer(100)
        assert home.kept_rows == 1
        begun = home.ask(1, 2)
        await quiet()
        await home.stop.rows_mixed(MIXED)
        assert home.kept_rows == 0
        await home.answer(1)
        assert said(begun) == [1, 2]
        assert home.kept_rows == 0
        again, row = home.ask(7), home.ask(1)
        await home.answer(1, 1)
        assert (said(old), said(again), said(row)) == ([700], [7], [1])
        assert home.kept_rows == 2
        whole = home.ask(1)
        await quiet()
        assert said(whole) == [1]
        assert whole.result().cached == CacheUse(1, 1)


async def test_a_byte_for_byte_repeat_is_not_answered_from_what_was_kept() -> None:
    async with house() as home:
        first = home.ask(7)
        await home.answer(1)
        hit = home.ask(7)
        await quiet()
        recall = hit.result().recall
        assert recall is not None
        assert recall.again()
        await home.stop.rows_mixed(MIXED)
        assert not recall.again()
        assert first.done()


async def test_what_the_pages_show_and_the_log_says() -> None:
    async with house() as home:
        with capture_logs() as logged:
            await home.stop.rows_mixed(MIXED)
        because = f"while serving, {MIXED.because}"
        assert (home.sharing.batched, home.sharing.mixed, home.sharing.unbatched_because) == (False, True, because)
        assert home.sharing.cache_plan == CachePlan(True, "request", f"by whole requests: {because}")
        assert [model.scope for model in home.cache.state().models] == ["request"]
        (line,) = logged
        assert (line["log_level"], line["output"], line["model"], line["version"]) == ("error", "y", "m", 1)
        home.stop.retire()
        assert not home.cache.state().models


class FailingCache(Cache):
    """Redis does not answer the first times."""

    def __init__(self, failures: int) -> None:
        super().__init__(CacheOptions(1 << 20))
        self.failures = failures
        self.asked = 0

    async def forget(self, space: str) -> int | None:
        self.asked += 1
        if self.asked <= self.failures:
            raise CacheUnavailable("nobody answers")
        return 0


async def test_a_redis_that_does_not_answer_is_asked_until_it_does() -> None:
    puppet, cache = Puppet(), FailingCache(3)
    async with cache, Batcher(puppet, BatchLimits(64), on_batch=lambda report: None) as batcher:
        home = House(puppet, cache, batcher)
        with capture_logs() as logged:
            finding = asyncio.ensure_future(home.stop.rows_mixed(MIXED))
            await quiet()
            assert home.sharing.mixed, "nobody waits for Redis"
            await pass_time(20 * FIRST_PAUSE_S)
        assert finding.done()
        assert cache.asked == 4
        assert len([line for line in logged if "Redis" in line["event"]]) == 1


async def test_a_version_without_a_cache_is_unbatched_too() -> None:
    async with house() as home:
        home.sharing.cache, home.stop.cached_model = None, None
        home.sharing.cache_plan = CachePlan(False, "row", "cache.enabled is false")
        await home.stop.rows_mixed(MIXED)
        assert home.sharing.mixed
        assert home.sharing.cache is None
        assert home.sharing.cache_plan == CachePlan(False, "row", "cache.enabled is false")
