"""Deletes cached answers of a model that may be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sluice.cache.cache import Cache
from sluice.cache.remote.redis_link import CacheUnavailable
from sluice.gateway.telemetry.logs import log

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pauses between attempts while Redis does not answer. They go on until it does: the next load of the model must not
find what Redis holds."""


async def delete_until_done(delete: Callable[[], Awaitable[object]], model: str, version: int) -> None:
    """Delete answers, and try again until Redis has answered."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await delete()
        except CacheUnavailable as error:
            if pause_s == FIRST_PAUSE_S:
                because = str(error)
                log.warning(
                    "Redis may still hold wrong answers of the model", model=model, version=version, because=because
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
        else:
            return


class CacheInvalidation:
    """Deletes the cached answers of a model whose workers may have seen other weights than those of its digest.

    An async context manager that owns its task: leaving cancels what is still being deleted.
    """

    def __init__(self, cache: Cache, model: str, version: int) -> None:
        self._cache = cache
        self._model = model
        self._version = version
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> CacheInvalidation:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def begin(self) -> None:
        """Delete every cached answer of the model: in memory at once, in Redis as soon as it answers."""
        if self._task is None or self._task.done():
            deleting = delete_until_done(lambda: self._cache.clear(self._model), self._model, self._version)
            self._task = asyncio.create_task(deleting, name=f"deleting cached answers of {self._model}")
