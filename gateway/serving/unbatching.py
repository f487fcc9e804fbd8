"""What happens once rows of a version turn out to influence each other: nothing is answered from such rows any more."""

from __future__ import annotations

from msgspec.structs import replace

from sluice.batching.batcher import Batcher
from sluice.cache.cache import Cache
from sluice.cache.tiers import CachedModel
from sluice.gateway.serving.audit.examine import Finding
from sluice.gateway.serving.footing import Footing
from sluice.gateway.serving.forgetting import until_forgotten
from sluice.gateway.telemetry.logs import log


class Unbatching:
    """Ends the batching of one version, for as long as it is served.

    `batcher`, and `kept` where answers are, are there before the first batch.
    """

    batcher: Batcher

    def __init__(self, footing: Footing, cache: Cache, model: str, version: int) -> None:
        self.kept: CachedModel | None = None
        self._footing = footing
        self._cache = cache
        self._model = model
        self._version = version

    async def found(self, finding: Finding) -> None:
        """Rows were seen to influence each other. All that follows from it is done before the first suspension.

        Only the entries in Redis go later. None of them is found from here any more: answers of a model that runs each
        request alone have keys of their own. Goes on until Redis has answered.
        """
        footing, before = self._footing, self._footing.cache
        because = f"while serving, {finding.because}"
        now = None
        if before is not None and self.kept is not None:
            now = self._cache.replace(before, replace(self.kept, scope="request", engine=f"{self.kept.engine} alone"))
        footing.unbatch(because, now)
        self.batcher.unbatch()
        log.error(
            "rows influence each other, and earlier answers may be wrong: each request runs alone from now on, and "
            "what was cached is thrown away",
            model=self._model,
            version=self._version,
            output=finding.output,
            because=because,
        )
        if before is not None:
            await until_forgotten(lambda: self._cache.forget(before.space), self._model, self._version)

    def retire(self) -> None:
        """The version is served no more."""
        if self._footing.cache is not None:
            self._cache.retire(self._footing.cache)
