"""Throwing away what is kept of a model's answers that were made with other weights than those of its digest."""

from __future__ import annotations

import asyncio

from cache.cache import Cache
from cache.redis_store import CacheUnavailable
from gateway.telemetry.logs import log


class Forgetting:
    """What a version does when its workers may have seen other weights. An async context manager that owns its task."""

    def __init__(self, cache: Cache, model: str) -> None:
        self._cache = cache
        self._model = model
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Forgetting:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    def begin(self) -> None:
        """From now on no kept answer of the model is given any more; of those in Redis, as soon as it answers."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._forget(), name=f"throwing answers of {self._model} away")

    async def _forget(self) -> None:
        try:
            await self._cache.clear(self._model)
        except CacheUnavailable as error:
            log.error("answers of other weights may be left in Redis", model=self._model, because=str(error))
