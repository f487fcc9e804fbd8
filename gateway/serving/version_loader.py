"""Loads versions of models, and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

import msgspec

from sluice.cache.cache import Cache
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.serving.version_assembly import serve_version
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.tracing.tracer import Tracer
from sluice.inference.repository.scan import ModelVersion


class LoadedVersion(msgspec.Struct, frozen=True):
    """A version that can be served, what it was made from, and the stack that ends it."""

    served: ServedModel
    source: ModelVersion
    stack: AsyncExitStack

    def is_of(self, source: ModelVersion) -> bool:
        """Whether a later scan saw a version that answers alike and is served alike, from files that can be loaded."""
        what = ("digest", "config", "sample", "file", "tried_with")
        return all(getattr(self.source, name) == getattr(source, name) for name in what)


class VersionLoader:
    """Loads versions one after another, since two would disturb each other's measurements and plan the same memory."""

    def __init__(self, settings: Settings, metrics: Metrics, cache: Cache, tracer: Tracer | None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cache = cache
        self._tracer = tracer
        self._ending: set[asyncio.Task[None]] = set()

    async def load(self, sources: Iterable[ModelVersion]) -> Sequence[LoadedVersion]:
        """The versions, warm. If one cannot be loaded, those before it are ended again. Raises `StartError`."""
        loaded: list[LoadedVersion] = []
        try:
            for source in sources:
                stack = AsyncExitStack()
                served = await stack.enter_async_context(
                    serve_version(source, self._settings, self._metrics, self._cache, self._tracer)
                )
                loaded.append(LoadedVersion(served, source, stack))
        except BaseException:
            await self.end(loaded)
            raise
        return loaded

    async def end(self, versions: Iterable[LoadedVersion]) -> None:
        """End versions, all at the same time: each may take as long as its last request.

        They are ended even if the caller is cancelled.
        """
        tasks = [asyncio.create_task(_end(each)) for each in versions]
        self._ending.update(tasks)
        for task in tasks:
            task.add_done_callback(self._ending.discard)
        await asyncio.shield(asyncio.gather(*tasks))

    async def ended(self) -> None:
        """Return once every version that is being ended has ended."""
        await asyncio.gather(*self._ending)


async def _end(version: LoadedVersion) -> None:
    await version.stack.aclose()
    log.info("model ended", model=version.served.name, version=version.served.version)
