"""64 callers that look up one key each, again and again: an awaited GET for each, and the tier's shared MGETs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import redis.asyncio
import uvloop

from sluice.cache.remote.tier import RedisOptions, RedisTier
from sluice.cache.report import TierCounts

CALLERS = 64
SPACE = "benchmark"
VALUE = b"x" * 200


class Lookups(msgspec.Struct, frozen=True):
    """What one way of looking up did."""

    per_s: float
    cpu_s_per_1000: float


def looked_up(url: str, way: str, seconds: float) -> Lookups:
    """Runs one way, `get` or `tier`, for so long."""
    return uvloop.run(_get(url, seconds) if way == "get" else _tier(url, seconds))


async def _get(url: str, seconds: float) -> Lookups:
    client = redis.asyncio.Redis.from_url(url)
    name = f"sluice:{SPACE}:{bytes(16).hex()}"
    await client.set(name, VALUE)
    try:
        return await _repeat(lambda: client.get(name), lambda found: found == VALUE, seconds)
    finally:
        await client.aclose()


async def _tier(url: str, seconds: float) -> Lookups:
    async with RedisTier(RedisOptions(url, timeout_s=5.0, connect_timeout_s=5.0)) as tier:
        counts = TierCounts(lambda _: None)
        tier.store(SPACE, bytes(16), VALUE, 3600.0, counts)
        while not counts.stores:  # noqa: ASYNC110 - what is written in the background sets no event here
            await asyncio.sleep(0.01)
        return await _repeat(
            lambda: tier.lookup(SPACE, [bytes(16)]),
            lambda found: found is not None and found.values == [VALUE],
            seconds,
        )


async def _repeat(ask: Callable[[], Awaitable[Any]], right: Callable[[Any], bool], seconds: float) -> Lookups:
    done = 0
    began_s, cpu_began_s = time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - began_s < seconds:
            if not right(await ask()):
                raise RuntimeError("a lookup did not find what was stored")
            done += 1

    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    taken_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    return Lookups(done / taken_s, cpu_s / done * 1000)
