"""How a version treats the rows of its callers now: it may turn out while serving that they influence each other."""

from __future__ import annotations

from sluice.cache.model_cache import ModelCache
from sluice.gateway.serving.cache_plan import CachePlan

UNCACHED = CachePlan(False, "request", "")


class Footing:
    """What a version in service stands on. Changes once at most, when `unbatch` is called.

    `batched` says whether requests share batches, `unbatched_because` in plain words why they do not. `cache` is what
    the answers are kept in, and `caching` how; where there is none, there never is one. `mixed` is true once rows were
    found to influence each other while serving.
    """

    __slots__ = ("batched", "cache", "caching", "mixed", "unbatched_because")

    def __init__(
        self,
        *,
        batched: bool = False,
        unbatched_because: str | None = None,
        caching: CachePlan = UNCACHED,
        cache: ModelCache | None = None,
    ) -> None:
        self.batched = batched
        self.unbatched_because = unbatched_because
        self.caching = caching
        self.cache = cache
        self.mixed = False

    def unbatch(self, because: str, cache: ModelCache | None) -> None:
        """Each request is answered by itself from now on, and kept as a whole in this cache."""
        self.batched, self.mixed, self.unbatched_because, self.cache = False, True, because, cache
        if self.caching.enabled:
            self.caching = CachePlan(True, "request", f"by whole requests: {because}")
