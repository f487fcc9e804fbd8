"""Throwing away what is kept of a model's answers that turned out not to be its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sluice.cache.cache import Cache
from sluice.cache.remote.redis_link import CacheUnavailable
from sluice.gateway.telemetry.logs import log

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""A Redis that does not answer is asked again after so long: what it holds must not be found by the next load."""


async def until_forgotten(forget: Callable[[], Awaitable[object]], model: str, version: int) -> None:
    """Throws answers away, and goes on trying until Redis has answered."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await forget()
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


class Forgetting:
    """What a version does when its workers may have seen other weights than those of its digest.

    An async context manager that owns its task, which ends with the version at the latest.
    """

    def __init__(self, cache: Cache, model: str, version: int) -> None:
        self._cache = cache
        self._model = model
        self._version = version
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Forgetting:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def begin(self) -> None:
        """From now on no kept answer of the model is given any more; of those in Redis, as soon as it answers."""
        if self._task is None or self._task.done():
            forgotten = until_forgotten(lambda: self._cache.clear(self._model), self._model, self._version)
            self._task = asyncio.create_task(forgotten, name=f"throwing answers of {self._model} away")
