"""Stops the batching of a version whose rows turn out to influence each other."""

from __future__ import annotations

from msgspec.structs import replace

from sluice.batching.batcher import Batcher
from sluice.cache.cache import Cache
from sluice.cache.tiers import CachedModel
from sluice.gateway.serving.audit.examine import AuditFinding
from sluice.gateway.serving.cache_invalidation import delete_until_done
from sluice.gateway.serving.row_sharing import RowSharing
from sluice.gateway.telemetry.logs import log


class BatchingStop:
    """Stops the batching of one version for as long as it is served, and deletes the answers that may be wrong.

    `batcher`, and `cached_model` where answers are cached, have to be set before the first batch.
    """

    batcher: Batcher

    def __init__(self, sharing: RowSharing, cache: Cache, model: str, version: int) -> None:
        self.cached_model: CachedModel | None = None
        self._sharing = sharing
        self._cache = cache
        self._model = model
        self._version = version

    async def rows_mixed(self, finding: AuditFinding) -> None:
        """Rows were seen to influence each other: run each request alone, and delete what was cached.

        All of that is done before the first suspension, but the deletion in Redis; this returns once Redis has
        answered. Until then its entries are not found from here: answers of a model that runs each request alone have
        keys of their own.
        """
        sharing, before = self._sharing, self._sharing.cache
        because = f"while serving, {finding.because}"
        now = None
        if before is not None and self.cached_model is not None:
            engine = f"{self.cached_model.engine} alone"
            now = self._cache.replace(before, replace(self.cached_model, scope="request", engine=engine))
        sharing.unbatch(because, now)
        self.batcher.unbatch()
        log.error(
            "rows influence each other, and earlier answers may be wrong: each request runs alone from now on, and "
            "what was cached is deleted",
            model=self._model,
            version=self._version,
            output=finding.output,
            because=because,
        )
        if before is not None:
            await delete_until_done(lambda: self._cache.forget(before.space), self._model, self._version)

    def retire(self) -> None:
        """The version is no longer served: its part of the cache may go."""
        if self._sharing.cache is not None:
            self._cache.retire(self._sharing.cache)
