"""What a query hears, and what the model is asked, in virtual time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sluice.cache.economy import WINDOW_ROWS
from sluice.cache.fetch_or_compute import Answer
from sluice.cache.memory import MemoryTier
from sluice.cache.model_cache import ModelCache
from sluice.cache.report import TierName
from sluice.cache.tiers import CLAIMED_KEYS, TRIP_KEYS
from sluice.cache.turns import STEP_BYTES, STEP_ROWS
from sluice.inference.errors import DeadlineExceeded, ModelFailed, QueueFull, RequestTooLarge
from sluice.inference.types import CacheUse, Caching, Query
from tests.batching.virtual_time import VirtualTimeLoop, pass_time, quiet
from tests.cache.fakes import UNBATCHED, Model, Prompt, Result, Shelf, ask, bits, clock, said, subject

Scenario = Callable[[], Coroutine[Any, Any, None]]


def in_virtual_time(scenario: Scenario) -> Callable[[], None]:
    """Makes a test of a coroutine."""

    def test() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(scenario())
            loop = runner.get_loop()
            assert isinstance(loop, VirtualTimeLoop)
            assert not loop.complaints

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test


def cache_of(redis: Shelf | None = None, memory_bytes: int = 1 << 20, **about: Any) -> ModelCache:
    memory = MemoryTier(memory_bytes, lambda _: None) if memory_bytes else None
    return ModelCache(subject(**about), memory, redis, clock)


def counts(cache: ModelCache, tier: TierName) -> tuple[int, int, int]:
    """Hits, misses and stores."""
    (state,) = [state for state in cache.state().tiers if state.tier is tier]
    return state.counts.hits, state.counts.misses, state.counts.stores


def right(answer: Answer, query: Query) -> bool:
    return bits(answer.outputs) == bits(said(query))


@in_virtual_time
async def test_a_row_is_computed_once() -> None:
    cache, model = cache_of(), Prompt()
    first, again = await cache.answer(ask(1), model), await cache.answer(ask(1), model)
    assert right(first, ask(1))
    assert right(again, ask(1))
    assert model.computed == [1]
    assert (first.cached, again.cached) == (CacheUse(1, 0), CacheUse(1, 1))
    assert first.compute_s > 0
    assert again.compute_s == again.queue_s == 0
    assert counts(cache, TierName.MEMORY) == (1, 1, 1)


@in_virtual_time
async def test_only_missing_rows_travel_in_their_order() -> None:
    cache, model = cache_of(), Prompt()
    await cache.answer(ask(2, 4), model)
    answer = await cache.answer(ask(5, 2, 3, 4, 1), model)
    assert right(answer, ask(5, 2, 3, 4, 1))
    assert model.runs[-1].numbers == [5, 3, 1]
    assert answer.cached == CacheUse(5, 2)


@in_virtual_time
async def test_rows_that_repeat_in_one_request_are_computed_once() -> None:
    cache, model = cache_of(), Prompt()
    answer = await cache.answer(ask(7, 7, 8, 7), model)
    assert right(answer, ask(7, 7, 8, 7))
    assert model.computed == [7, 8]
    assert answer.cached == CacheUse(4, 2)


@in_virtual_time
async def test_other_outputs_and_parameters_are_other_questions() -> None:
    cache, model = cache_of(), Prompt()
    for query in (ask(1), ask(1, outputs=("t", "y")), ask(1, outputs=("y",)), ask(1, parameters={"top": 3})):
        assert right(await cache.answer(query, model), query)
    assert len(model.runs) == 4


@in_virtual_time
async def test_no_rows_are_no_business_of_the_cache() -> None:
    cache, model = cache_of(), Prompt()
    answer = await cache.answer(ask(), model)
    assert answer.cached is None
    assert len(model.runs) == 1


@in_virtual_time
async def test_no_store_neither_looks_up_nor_stores() -> None:
    cache, model = cache_of(), Prompt()
    await cache.answer(ask(1), model)
    assert (await cache.answer(ask(1, caching=Caching.PASS), model)).cached is None
    await cache.answer(ask(2, caching=Caching.PASS), model)
    await cache.answer(ask(2), model)
    assert model.computed == [1, 1, 2, 2]


@in_virtual_time
async def test_no_cache_computes_anew_and_stores() -> None:
    cache, model = cache_of(Shelf()), Prompt()
    await cache.answer(ask(1), model)
    assert (await cache.answer(ask(1, caching=Caching.RENEW), model)).cached == CacheUse(1, 0)
    assert (await cache.answer(ask(2, caching=Caching.RENEW), model)).cached == CacheUse(1, 0)
    assert (await cache.answer(ask(1, 2), model)).cached == CacheUse(2, 2)
    assert model.computed == [1, 1, 2]


@in_virtual_time
async def test_no_cache_does_not_follow_what_was_begun_before_it() -> None:
    cache, model = cache_of(), Model()
    earlier = asyncio.ensure_future(cache.answer(ask(1), model))
    await quiet()
    renewing = asyncio.ensure_future(cache.answer(ask(1, caching=Caching.RENEW), model))
    await quiet()
    assert model.computed == [1, 1]
    for run in model.out:
        run.finish()
    assert (await renewing).cached == CacheUse(1, 0)
    await earlier


@in_virtual_time
async def test_entries_are_forgotten_when_their_time_is_over() -> None:
    cache, model = cache_of(ttl_s=10.0), Prompt()
    await cache.answer(ask(1), model)
    await pass_time(9.0)
    await cache.answer(ask(1), model)
    assert model.computed == [1]
    await pass_time(2.0)
    await cache.answer(ask(1), model)
    assert model.computed == [1, 1]


@in_virtual_time
async def test_whole_requests_where_rows_depend_on_each_other() -> None:
    cache, model = cache_of(scope="request"), Prompt()
    for query in (ask(1, 2), ask(2, 1), ask(1), ask(1, 2, 3)):
        assert (await cache.answer(query, model)).cached == CacheUse(query.rows, 0)
    again = await cache.answer(ask(1, 2, 3), model)
    assert right(again, ask(1, 2, 3))
    assert again.cached == CacheUse(3, 3)
    assert [run.numbers for run in model.runs] == [[1, 2], [2, 1], [1], [1, 2, 3]]


@in_virtual_time
async def test_a_model_without_a_batch_axis_is_one_row() -> None:
    cache, model = cache_of(scope="request", signature=UNBATCHED), Prompt()
    query = Query(ask(1, 2).inputs, 1, ((2, 2), (2,)), ("y",), 1e9)
    own = np.array([[3.0]], np.float32)

    def scalar(_: Query) -> asyncio.Future[Result]:
        end: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        end.set_result(Result((own,)))
        return end

    assert (await cache.answer(query, scalar)).cached == CacheUse(1, 0)
    assert (await cache.answer(query, model)).outputs[0].tolist() == [[3.0]]


# Single-flight.


@in_virtual_time
async def test_what_is_being_computed_is_waited_for() -> None:
    cache, model = cache_of(), Model()
    asked = [asyncio.ensure_future(cache.answer(ask(1), model)) for _ in range(200)]
    await quiet()
    assert model.computed == [1]
    model.out[0].finish()
    answers = await asyncio.gather(*asked)
    assert all(right(answer, ask(1)) for answer in answers)
    assert [answer.cached for answer in answers] == [CacheUse(1, 0)] + [CacheUse(1, 1)] * 199
    assert cache.state().followers == 199


@in_virtual_time
async def test_rows_of_one_request_come_from_everywhere() -> None:
    cache, model = cache_of(), Model()
    known = asyncio.ensure_future(cache.answer(ask(1), model))
    await quiet()
    model.out[0].finish()
    await known
    other = asyncio.ensure_future(cache.answer(ask(2, 3), model))
    await quiet()
    mixed = asyncio.ensure_future(cache.answer(ask(3, 1, 4, 2), model))
    await quiet()
    assert [run.numbers for run in model.out] == [[2, 3], [4]]
    for run in model.out:
        run.finish()
    assert right(await mixed, ask(3, 1, 4, 2))
    assert (await mixed).cached == CacheUse(4, 3)
    await other


@in_virtual_time
async def test_two_that_want_each_others_rows_do_not_wait_for_each_other() -> None:
    cache, model = cache_of(), Model()
    one = asyncio.ensure_future(cache.answer(ask(1, 2), model))
    await quiet()
    other = asyncio.ensure_future(cache.answer(ask(3, 1, 2), model))
    await quiet()
    back = asyncio.ensure_future(cache.answer(ask(2, 3), model))
    await quiet()
    assert [run.numbers for run in model.out] == [[1, 2], [3]]
    for run in model.out:
        run.finish()
    assert right(await one, ask(1, 2))
    assert right(await other, ask(3, 1, 2))
    assert right(await back, ask(2, 3))


@in_virtual_time
async def test_a_follower_takes_over_from_a_leader_that_is_gone() -> None:
    cache, model = cache_of(), Model()
    leader, *followers = [asyncio.ensure_future(cache.answer(ask(1), model)) for _ in range(4)]
    await quiet()
    leader.cancel()
    await quiet()
    assert model.runs[0].end.cancelled(), "nobody wants the batch of one who is gone"
    assert len(model.out) == 1
    model.out[0].finish()
    assert all(right(answer, ask(1)) for answer in await asyncio.gather(*followers))
    assert len(model.runs) == 2


@in_virtual_time
async def test_a_follower_that_is_gone_disturbs_nobody() -> None:
    cache, model = cache_of(), Model()
    leader, gone, other = [asyncio.ensure_future(cache.answer(ask(1), model)) for _ in range(3)]
    await quiet()
    gone.cancel()
    await quiet()
    model.out[0].finish()
    assert right(await leader, ask(1))
    assert right(await other, ask(1))


@in_virtual_time
async def test_the_failure_of_a_leader_is_its_own() -> None:
    cache, model = cache_of(), Model()
    leader, *followers = [asyncio.ensure_future(cache.answer(ask(1, 9), model))] + [
        asyncio.ensure_future(cache.answer(ask(1), model)) for _ in range(3)
    ]
    await quiet()
    model.out[0].fail(ModelFailed("row 9 is bad"))
    await quiet()
    assert len(model.out) == 1
    model.out[0].finish()
    assert all(right(answer, ask(1)) for answer in await asyncio.gather(*followers))
    with pytest.raises(ModelFailed, match="row 9"):
        await leader


@in_virtual_time
async def test_a_row_that_always_fails_is_not_tried_by_one_after_the_other_for_ever() -> None:
    cache, model = cache_of(), Model()
    asked = [asyncio.ensure_future(cache.answer(ask(1), model)) for _ in range(50)]
    rounds = 0
    await quiet()
    while model.out:
        rounds += 1
        for run in model.out:
            run.fail(ModelFailed("the row is bad"))
        await quiet()
    assert rounds == 3
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(end, ModelFailed) for end in ends)


@in_virtual_time
async def test_a_refused_leader_leaves_its_followers_to_themselves() -> None:
    cache, model = cache_of(), Model()
    full = True

    def door(query: Query) -> asyncio.Future[Result]:
        if full:
            raise QueueFull("the queue is full")
        return model(query)

    with pytest.raises(QueueFull):
        await cache.answer(ask(1), door)
    full = False
    answer = asyncio.ensure_future(cache.answer(ask(1), door))
    await quiet()
    model.out[0].finish()
    assert right(await answer, ask(1))


@in_virtual_time
async def test_a_follower_keeps_its_own_deadline() -> None:
    cache, model = cache_of(), Model()
    leader = asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 1), model))
    await quiet()
    follower = asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 5), model))
    await pass_time(4.0)
    assert not follower.done()
    await pass_time(2.0)
    with pytest.raises(DeadlineExceeded, match="another one"):
        await follower
    leader.cancel()


@in_virtual_time
async def test_nobody_is_kept_by_one_who_has_more_time_or_less_priority() -> None:
    cache, model = cache_of(), Model()
    asked = [
        asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 60, priority=5), model)),
        asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 1, priority=5), model)),
        asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 60, priority=1), model)),
        asyncio.ensure_future(cache.answer(ask(1, deadline_s=clock() + 60, priority=9), model)),
    ]
    await quiet()
    assert len(model.out) == 3
    for run in model.out:
        run.finish()
    await asyncio.gather(*asked)


@in_virtual_time
async def test_a_follower_that_waits_past_the_promise_is_late() -> None:
    cache, model = cache_of(objective_s=1.0), Model()
    leader = asyncio.ensure_future(cache.answer(ask(1), model))
    await pass_time(0.5)
    follower = asyncio.ensure_future(cache.answer(ask(1), model))
    await pass_time(2.0)
    model.out[0].finish()
    assert (await follower).late
    await leader


# Redis behind memory.


@in_virtual_time
async def test_what_another_process_has_stored_is_found() -> None:
    shelf, model = Shelf(), Prompt()
    await cache_of(shelf).answer(ask(1, 2), model)
    other = cache_of(shelf)
    answer = await other.answer(ask(2, 3, 1), model)
    assert right(answer, ask(2, 3, 1))
    assert answer.cached == CacheUse(3, 2)
    assert model.computed == [1, 2, 3]
    assert counts(other, TierName.REDIS) == (2, 1, 1)
    assert (await other.answer(ask(1, 2, 3), model)).cached == CacheUse(3, 3)
    assert len(shelf.lookups) == 2, "what was found in Redis is in memory from then on"


@in_virtual_time
async def test_redis_alone_is_a_cache_too() -> None:
    cache, model = cache_of(Shelf(), memory_bytes=0), Prompt()
    await cache.answer(ask(1), model)
    assert right(await cache.answer(ask(1), model), ask(1))
    assert model.computed == [1]


@in_virtual_time
async def test_identical_rows_are_looked_up_once() -> None:
    shelf, model = Shelf(), Prompt()
    shelf.takes_s = 0.01
    cache = cache_of(shelf)
    await asyncio.gather(*[cache.answer(ask(1), model) for _ in range(10)])
    assert len(shelf.lookups) == 1
    assert model.computed == [1]


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\1" * 40])
def test_what_is_no_value_of_ours_is_a_miss(damage: bytes) -> None:
    @in_virtual_time
    async def play() -> None:
        shelf, model = Shelf(), Prompt()
        await cache_of(shelf).answer(ask(1), model)
        shelf.values = dict.fromkeys(shelf.values, damage)
        other = cache_of(shelf)
        assert right(await other.answer(ask(1), model), ask(1))
        assert model.computed == [1, 1]
        assert counts(other, TierName.REDIS)[:2] == (0, 1)
        assert other.state().tiers[1].counts.errors == 1

    play()


@in_virtual_time
async def test_a_redis_that_does_not_answer_is_a_miss() -> None:
    shelf, model = Shelf(), Prompt()
    shelf.answers = False
    cache = cache_of(shelf)
    assert right(await cache.answer(ask(1), model), ask(1))
    assert cache.state().tiers[1].counts.errors == 1


@in_virtual_time
async def test_a_redis_that_is_left_alone_is_not_asked() -> None:
    shelf, model = Shelf(), Prompt()
    shelf.readable = False
    await cache_of(shelf).answer(ask(1), model)
    assert not shelf.lookups


@in_virtual_time
async def test_a_slow_redis_takes_no_more_than_its_share_of_the_time() -> None:
    shelf, model = Shelf(), Prompt()
    shelf.takes_s = 100.0
    started_s = clock()
    await cache_of(shelf).answer(ask(1, deadline_s=clock() + 0.1), model)
    assert clock() - started_s < 0.05


@in_virtual_time
async def test_a_row_that_another_process_computes_is_waited_for() -> None:
    shelf, model, elsewhere = Shelf(leasing=True), Prompt(), Model()
    there = asyncio.ensure_future(cache_of(shelf).answer(ask(1), elsewhere))
    await quiet()
    here = asyncio.ensure_future(cache_of(shelf).answer(ask(1, 2), model))
    await pass_time(0.1)
    assert model.computed == [2], "what is one's own is computed before one waits"
    elsewhere.out[0].finish()
    assert right(await here, ask(1, 2))
    await there
    assert model.computed == [2]


@in_virtual_time
async def test_a_lease_whose_holder_is_gone_keeps_nobody() -> None:
    shelf, model, elsewhere = Shelf(leasing=True), Prompt(), Model()
    gone = asyncio.ensure_future(cache_of(shelf).answer(ask(1), elsewhere))
    await quiet()
    here = asyncio.ensure_future(cache_of(shelf).answer(ask(1), model))
    await quiet()
    gone.cancel()
    assert right(await here, ask(1))
    assert not shelf.claims - {(space, key) for space, key in shelf.values}


@in_virtual_time
async def test_nobody_waits_for_an_answer_that_is_not_kept() -> None:
    shelf, model = Shelf(leasing=True), Prompt()
    shelf.full = True
    await cache_of(shelf).answer(ask(1), model)
    assert not shelf.claims


# What does not pay is bypassed.


@in_virtual_time
async def test_a_cache_that_never_hits_is_bypassed_but_for_a_sample() -> None:
    cache, model = cache_of(adaptive=True), Prompt()
    cache._clock = cache._tiers._clock = costly(1.0)
    for number in range(8 * WINDOW_ROWS):
        assert (await cache.answer(ask(number), model)).cached == CacheUse(1, 0)
    (memory,) = cache.state().tiers
    assert not memory.pays
    assert memory.counts.bypassed > 6 * WINDOW_ROWS
    assert memory.counts.lookups > WINDOW_ROWS


@in_virtual_time
async def test_a_bypassed_cache_notices_when_it_would_pay() -> None:
    cache, model = cache_of(adaptive=True), Prompt()
    cache._clock = cache._tiers._clock = costly(0.0001)
    for number in range(2 * WINDOW_ROWS):
        await cache.answer(ask(number), model)
    assert not cache.state().tiers[0].pays
    for _ in range(300):
        for number in range(100):
            await cache.answer(ask(number), model)
    assert cache.state().tiers[0].pays


def costly(tick_s: float) -> Callable[[], float]:
    """A clock on which everything takes time."""
    now_s = 1000.0

    def read() -> float:
        nonlocal now_s
        now_s += tick_s / 100
        return now_s

    return read


# Models that do not keep what they promise, and other edges.


@in_virtual_time
async def test_outputs_without_the_rows_are_passed_on_and_not_kept() -> None:
    cache = cache_of()

    def odd(query: Query) -> asyncio.Future[Result]:
        end: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        end.set_result(Result((np.full((1, 1), query.rows, np.float32),)))
        return end

    for rows in (2, 3, 2):
        answer = await cache.answer(ask(*range(rows), outputs=("y",)), odd)
        assert answer.outputs[0].tolist() == [[rows]]
        assert answer.cached == CacheUse(rows, 0)


@in_virtual_time
async def test_rows_whose_outputs_changed_shape_are_computed_together() -> None:
    cache = cache_of()
    width = 1

    def growing(query: Query) -> asyncio.Future[Result]:
        end: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        end.set_result(Result((np.zeros((query.rows, width), np.float32),)))
        return end

    await cache.answer(ask(1, outputs=("y",)), growing)
    width = 2
    answer = await cache.answer(ask(1, 2, outputs=("y",)), growing)
    assert answer.outputs[0].shape == (2, 2)
    assert answer.cached == CacheUse(2, 0)


@in_virtual_time
async def test_many_rows_give_others_their_turn() -> None:
    cache, model = cache_of(memory_bytes=1 << 26), Prompt()
    numbers = range(3 * STEP_ROWS)
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(neighbour())
    assert right(await cache.answer(ask(*numbers), model), ask(*numbers))
    assert turns >= 4
    turns = 0
    assert (await cache.answer(ask(*numbers), model)).cached == CacheUse(len(numbers), len(numbers))
    assert turns >= 2
    beside.cancel()


@in_virtual_time
async def test_what_was_forgotten_while_it_was_computed_is_not_kept() -> None:
    cache, model = cache_of(), Model()
    before = asyncio.ensure_future(cache.answer(ask(1), model))
    await quiet()
    cache.forget()
    after = asyncio.ensure_future(cache.answer(ask(1), model))
    await quiet()
    assert len(model.out) == 2
    model.out[0].finish()
    assert right(await before, ask(1))
    assert counts(cache, TierName.MEMORY)[2] == 0
    model.out[0].finish()
    await after
    assert counts(cache, TierName.MEMORY)[2] == 1


def test_rows_too_large_to_be_digested_at_once_are_digested_in_a_thread() -> None:
    async def play() -> None:
        cache = ModelCache(subject(scope="request", signature=UNBATCHED), MemoryTier(1 << 24, lambda _: None), None)
        x = np.zeros((1, STEP_BYTES // 4 + 1), np.float32)
        query = Query((x, x), 1, ((1, x.shape[1]), (1, x.shape[1])), ("y",), 1e9)

        def constant(_: Query) -> asyncio.Future[Result]:
            end: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            end.set_result(Result((np.ones((1, 1)),)))
            return end

        assert (await cache.answer(query, constant)).cached == CacheUse(1, 0)
        assert (await cache.answer(query, constant)).cached == CacheUse(1, 1)

    asyncio.run(play())


@in_virtual_time
async def test_many_rows_are_looked_up_in_redis_a_trip_at_a_time() -> None:
    shelf = Shelf()
    numbers = range(3 * TRIP_KEYS + 5)
    first, second = cache_of(shelf, memory_bytes=1 << 16), cache_of(shelf, memory_bytes=1 << 16)
    await first.answer(ask(*numbers), Prompt())
    shelf.lookups.clear()
    model = Prompt()
    answer = await second.answer(ask(*numbers), model)
    assert right(answer, ask(*numbers))
    assert answer.cached == CacheUse(len(numbers), len(numbers))
    assert not model.runs
    assert [len(keys) for keys in shelf.lookups] == [TRIP_KEYS] * 3 + [5]
    assert len(second._flights) == 0


@in_virtual_time
async def test_a_redis_that_does_not_answer_is_not_asked_trip_after_trip() -> None:
    shelf = Shelf()
    shelf.answers = False
    cache, model = cache_of(shelf), Prompt()
    numbers = range(5 * TRIP_KEYS)
    assert right(await cache.answer(ask(*numbers), model), ask(*numbers))
    assert len(shelf.lookups) == 1
    slow = Shelf()
    slow.takes_s = 3.0
    cache, model = cache_of(slow), Prompt()
    query = ask(*numbers, deadline_s=clock() + 20.0)
    assert right(await cache.answer(query, model), query)
    assert len(slow.lookups) == 2, "a quarter of the time that was left"


@in_virtual_time
async def test_many_rows_are_claimed_a_few_at_a_time() -> None:
    shelf = Shelf(leasing=True)
    numbers = range(2 * CLAIMED_KEYS + 1)
    one, other, model = cache_of(shelf), cache_of(shelf), Model()
    asked = [asyncio.ensure_future(each.answer(ask(*numbers), model)) for each in (one, other)]
    await quiet()
    for run in model.out:
        run.finish()
    for answer in asked:
        assert right(await answer, ask(*numbers))
    assert len(model.runs) == 1
    assert len(one._flights) == len(other._flights) == 0


@pytest.mark.parametrize("known", [False, True])
def test_the_deadline_is_looked_at_in_every_step(known: bool) -> None:
    """The first step is over in time, and the second would not be."""

    async def scenario() -> None:
        cache, model = cache_of(memory_bytes=1 << 26), Prompt()
        numbers = range(4 * STEP_ROWS)
        if known:
            await cache.answer(ask(*numbers), model)
        runs = len(model.runs)
        with pytest.raises(DeadlineExceeded):
            await cache.answer(ask(*numbers, deadline_s=clock()), model)
        assert len(model.runs) == runs
        assert len(cache._flights) == 0

    in_virtual_time(scenario)()


@in_virtual_time
async def test_a_client_that_goes_between_two_steps_leaves_nothing_behind() -> None:
    """Wherever that is: cancelled after any number of turns, it computes nothing and keeps nobody."""
    numbers = range(3 * STEP_ROWS)
    for turns in range(12):
        cache, model = cache_of(Shelf(), memory_bytes=1 << 26), Model()
        asked = asyncio.ensure_future(cache.answer(ask(*numbers), model))
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        await quiet()
        assert asked.cancelled()
        assert len(cache._flights) == 0
        after = asyncio.ensure_future(cache.answer(ask(*numbers), Prompt()))
        await quiet()
        assert right(await after, ask(*numbers))


@in_virtual_time
async def test_rows_of_an_answer_that_would_be_too_large_are_computed_and_not_put_together() -> None:
    cache, model = cache_of(max_answer_bytes=1000), Prompt()
    assert right(await cache.answer(ask(*[7] * 10), model), ask(*[7] * 10))
    for _ in range(2):
        with pytest.raises(RequestTooLarge):
            await cache.answer(ask(*[7] * 100), model)
    assert len(model.runs) == 1


@in_virtual_time
async def test_what_redis_has_is_not_fetched_beyond_what_an_answer_may_have() -> None:
    shelf = Shelf()
    numbers = range(4 * TRIP_KEYS)
    await cache_of(shelf).answer(ask(*numbers), Prompt())
    shelf.lookups.clear()
    cache = cache_of(shelf, max_answer_bytes=30 * TRIP_KEYS)
    with pytest.raises(RequestTooLarge):
        await cache.answer(ask(*numbers), Prompt())
    assert len(shelf.lookups) < 4
    assert len(cache._flights) == 0


@in_virtual_time
async def test_to_forget_lets_go_of_all_that_belongs_to_the_cache() -> None:
    forgotten: list[bool] = []
    cache = cache_of(on_forget=lambda: forgotten.append(True))
    await cache.answer(ask(1, parameters={"p": "x" * 100}), Prompt())
    assert cache._keys.remembered == 1
    cache.forget()
    assert cache._keys.remembered == 0
    assert forgotten == [True]


def test_a_thread_is_not_waited_for_past_the_deadline() -> None:
    """They may all be busy with other requests."""

    async def play() -> None:
        busy, pool = threading.Event(), ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(busy.wait)
        try:
            cache = ModelCache(subject(), MemoryTier(1 << 24, lambda _: None), None)
            x = np.zeros((1, STEP_BYTES // 4 + 1), np.float32)
            query = Query((x, x), 1, (x.shape[1:],) * 2, ("y",), time.monotonic() + 0.01)
            with pytest.raises(DeadlineExceeded):
                await cache.answer(query, Prompt())
        finally:
            busy.set()

    asyncio.run(play())


@in_virtual_time
async def test_what_is_fetched_while_all_is_forgotten_does_not_come_back() -> None:
    shelf = Shelf()
    await cache_of(shelf).answer(ask(1, 2, 3), Prompt())
    shelf.takes_s = 1.0
    for numbers in ((1, 2, 3), (1,)):
        cache, model = cache_of(shelf), Prompt()
        asked = asyncio.ensure_future(cache.answer(ask(*numbers), model))
        await pass_time(0.5)
        cache.forget()
        assert right(await asked, ask(*numbers))
        assert not model.runs
        assert counts(cache, TierName.MEMORY)[2] == 0
