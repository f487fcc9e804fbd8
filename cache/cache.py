"""The cache of the whole gateway: the tiers that all models share."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from sluice.cache.memory import MemoryTier
from sluice.cache.model_cache import ModelCache
from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.cluster_tier import ClusterTier
from sluice.cache.remote.tier import RedisOptions, RedisTier
from sluice.cache.report import CacheState, Owner
from sluice.cache.tiers import CachedModel
from sluice.cache.turns import Turns


class CacheOptions(msgspec.Struct, frozen=True):
    """Which tiers the cache has. `memory_bytes` 0 is no memory tier; `redis` `None` is no Redis."""

    memory_bytes: int
    redis: RedisOptions | None = None


class Cleared(msgspec.Struct, frozen=True):
    """How many entries were deleted; `redis_entries` is `None` where there is no Redis."""

    memory_entries: int
    redis_entries: int | None


class Cache:
    """Memory and Redis for every model. An async context manager that owns the connections to Redis.

    Entering never fails because of Redis. Memory holds at most `memory_bytes`, all models together; what is asked for
    often stays, whichever model it belongs to. `on_change` is called when reads or writes stop or start using Redis,
    with the new state and the reason in plain words. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        options: CacheOptions,
        *,
        on_change: Callable[[str, str, str | None], None] = lambda side, state, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._clock = clock
        self.turns = Turns(clock)
        """Schedules the steps of large requests, of all models."""
        self._models: list[ModelCache] = []
        self._memory = MemoryTier(options.memory_bytes, self._evicted) if options.memory_bytes else None
        self._redis = None if options.redis is None else _shared(options.redis, on_change, clock)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Cache:
        if self._redis is not None:
            await self._stack.enter_async_context(self._redis)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def there(self) -> bool:
        """Whether there is any tier at all."""
        return self._memory is not None or self._redis is not None

    def of_model(self, subject: CachedModel) -> ModelCache:
        """The cache of one version, until it is retired. While a version is replaced, there are two of its number."""
        model = ModelCache(subject, self._memory, self._redis, self._clock, self.turns)
        self._models.append(model)
        return model

    def retire(self, model: ModelCache) -> None:
        """The version is served no more: its rows leave the memory. In Redis others may use them."""
        if model not in self._models:
            return
        self._models.remove(model)
        model.forget()
        if self._memory is not None and self._newest(model.owner) is None:
            self._memory.remove(model.owner)

    def replace(self, model: ModelCache, subject: CachedModel) -> ModelCache:
        """An empty cache for a version whose cached answers must not be used any more.

        They leave the memory, and what is being computed at this moment is not kept. `forget` deletes them in Redis.
        """
        for each in self._models:
            if each.owner == model.owner:
                each.forget()
        if self._memory is not None:
            self._memory.remove(model.owner)
        if model in self._models:
            self._models.remove(model)
        return self.of_model(subject)

    async def forget(self, space: str) -> int | None:
        """Delete what Redis has of versions with the same files. Returns how many entries; `None` without Redis.

        Raises `CacheUnavailable` if it does not answer.
        """
        return None if self._redis is None else await self._redis.forget(space)

    def state(self) -> CacheState:
        memory, redis = self._memory, self._redis
        return CacheState(
            entries=0 if memory is None else memory.entries,
            size_bytes=0 if memory is None else memory.size_bytes,
            max_bytes=self._options.memory_bytes,
            models=tuple([model.state() for model in {each.owner: each for each in self._models}.values()]),
            redis=None if redis is None else redis.state(),
        )

    async def clear(self, model: str | None = None) -> Cleared:
        """Delete what is kept for all versions of a model, or everything.

        Raises `CacheUnavailable` if Redis does not answer; memory has been cleared then.
        """
        models = [each for each in self._models if model is None or each.owner.model == model]
        for each in models:
            each.forget()
        memory_entries = 0
        if self._memory is not None:
            memory_entries = sum([self._memory.remove(each.owner) for each in models])
        if self._redis is None:
            return Cleared(memory_entries, None)
        if model is None:
            return Cleared(memory_entries, await self._redis.forget(None))
        spaces = {each.space for each in models}
        return Cleared(memory_entries, sum([await self._redis.forget(space) for space in spaces]))

    def _evicted(self, owner: Owner) -> None:
        if (model := self._newest(owner)) is not None:
            model.count_eviction()

    def _newest(self, owner: Owner) -> ModelCache | None:
        return next((each for each in reversed(self._models) if each.owner == owner), None)


def _shared(
    options: RedisOptions, on_change: Callable[[str, str, str | None], None], clock: Callable[[], float]
) -> RedisTier | ClusterTier:
    if cluster_address(options.url) is None:
        return RedisTier(options, on_change=on_change, clock=clock)
    return ClusterTier(options, on_change=on_change, clock=clock)
