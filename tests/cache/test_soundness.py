"""Whatever models, clients, tiers and the clock do, in any order: each answer is the uncached one, bit for bit."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.cache.fetch_or_compute import Answer
from sluice.cache.memory import MemoryTier
from sluice.cache.model_cache import ModelCache
from sluice.inference.errors import DeadlineExceeded, ModelFailed, QueueFull
from sluice.inference.types import Caching, Query
from tests.batching.virtual_time import VirtualTimeLoop, pass_time, quiet
from tests.cache.fakes import Model, Result, Shelf, ask, bits, clock, said, subject

BAD = 7
"""The row that the model fails, with all that travel with it."""

numbers = st.lists(st.integers(0, BAD), max_size=5)
wanted = st.sampled_from([("y",), ("t",), ("y", "t"), ("t", "y")])
steps = st.one_of(
    *[
        st.tuples(
            st.just("ask"),
            st.integers(0, 1),
            numbers,
            wanted,
            st.sampled_from([0.05, 1.0, 1e6, 1e6]),
            st.sampled_from([1, 5, 5, 9]),
            st.sampled_from([Caching.USE, Caching.USE, Caching.USE, Caching.RENEW, Caching.PASS]),
        )
    ]
    * 3,
    st.tuples(st.sampled_from(["cancel", "end", "end", "fail"]), st.integers(0, 50)),
    st.tuples(st.just("pass time"), st.sampled_from([0.001, 0.03, 0.6, 20.0])),
    st.tuples(st.just("redis takes"), st.sampled_from([0.0, 0.0, 0.01, 10.0])),
    st.tuples(st.sampled_from(["quiet", "redis fails", "redis is back", "redis is left alone", "full", "room"])),
    st.tuples(st.just("damage"), st.integers(0, 50), st.integers(0, 400)),
    st.tuples(st.just("forget"), st.integers(0, 1)),
)


@settings(max_examples=500)
@given(
    st.lists(steps, max_size=40),
    st.sampled_from([0, 1200, 100_000]),
    st.sampled_from(["row", "request"]),
    st.booleans(),
)
def test_every_answer_is_the_uncached_one(
    script: list[tuple[Any, ...]], memory_bytes: int, scope: Any, leasing: bool
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(script, Cast(memory_bytes, scope, leasing)))
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        assert not loop.complaints


class Cast:
    """Two processes with a cache each, one Redis, and what was asked."""

    def __init__(self, memory_bytes: int, scope: Any, leasing: bool) -> None:
        self.shelf = Shelf(leasing=leasing)
        self.model = Model()
        self.full = False
        self.caches = [
            ModelCache(
                subject(scope=scope, ttl_s=30.0),
                MemoryTier(memory_bytes, lambda _: None) if memory_bytes else None,
                self.shelf,
                clock,
            )
            for _ in range(2)
        ]
        self.asked: list[tuple[Query, asyncio.Future[Answer]]] = []

    def compute(self, query: Query) -> asyncio.Future[Result]:
        if self.full:
            raise QueueFull("the queue is full")
        return self.model(query)

    def ask(self, process: int, query: Query) -> None:
        self.asked.append((query, asyncio.ensure_future(self.caches[process].answer(query, self.compute))))

    def end(self, number: int) -> None:
        if out := self.model.out:
            run = out[number % len(out)]
            if BAD in run.numbers:
                run.fail(ModelFailed("the row is bad"))
            else:
                run.finish()


async def play(script: list[tuple[Any, ...]], cast: Cast) -> None:
    for step, *details in script:
        match step, details:
            case "ask", [process, rows, outputs, within_s, priority, caching]:
                deadline_s = clock() + within_s
                query = ask(*rows, outputs=outputs, deadline_s=deadline_s, priority=priority, caching=caching)
                cast.ask(process, query)
            case "cancel", [number] if cast.asked:
                cast.asked[number % len(cast.asked)][1].cancel()
            case "end", [number]:
                cast.end(number)
            case "fail", [number] if out := cast.model.out:
                out[number % len(out)].fail(ModelFailed("chance"))
            case "pass time", [seconds]:
                await pass_time(seconds)
            case "quiet", _:
                await quiet()
            case "redis takes", [seconds]:
                cast.shelf.takes_s = seconds
            case "redis fails" | "redis is back" as what, _:
                cast.shelf.answers = what == "redis is back"
                cast.shelf.readable = True
            case "redis is left alone", _:
                cast.shelf.readable = False
            case "full" | "room" as what, _:
                cast.full = what == "full"
            case "damage", [number, place] if cast.shelf.values:
                key = list(cast.shelf.values)[number % len(cast.shelf.values)]
                value = bytearray(cast.shelf.values[key])
                value[place % len(value)] ^= 1 + place % 255
                cast.shelf.values[key] = bytes(value)
            case "forget", [process]:
                cast.caches[process].forget()
    await end_of_play(cast)


async def end_of_play(cast: Cast) -> None:
    cast.full = False
    while not all(future.done() for _, future in cast.asked):
        await quiet()
        if cast.model.out:
            cast.end(0)
        else:
            await pass_time(1.0)
    for query, future in cast.asked:
        if future.cancelled():
            continue
        match future.exception():
            case None:
                assert bits(future.result().outputs) == bits(said(query))
                cached = future.result().cached
                assert cached is None or 0 <= cached.hits <= cached.rows == query.rows
                assert (cached is None) == (query.caching is Caching.PASS or not query.rows)
            case error:
                assert isinstance(error, ModelFailed | QueueFull | DeadlineExceeded)
    await quiet()
    assert all(not len(cache._flights) for cache in cast.caches), "a flight was left behind"
