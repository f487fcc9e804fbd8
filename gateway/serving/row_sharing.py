"""Whether a version's requests share batches and cached rows. That may end while it serves."""

from __future__ import annotations

from sluice.cache.model_cache import ModelCache
from sluice.gateway.serving.cache_plan import CachePlan

UNCACHED = CachePlan(False, "request", "")


class RowSharing:
    """Whether requests of one version share batches, and how its answers are cached.

    It changes once at most, when `unbatch` is called. `unbatched_because` says in plain words why requests do not share
    batches. `cache` holds the answers, as `cache_plan` says; it is `None` for good where nothing is cached. `mixed` is
    true once rows were found to influence each other while serving.
    """

    __slots__ = ("batched", "cache", "cache_plan", "mixed", "unbatched_because")

    def __init__(
        self,
        *,
        batched: bool = False,
        unbatched_because: str | None = None,
        cache_plan: CachePlan = UNCACHED,
        cache: ModelCache | None = None,
    ) -> None:
        self.batched = batched
        self.unbatched_because = unbatched_because
        self.cache_plan = cache_plan
        self.cache = cache
        self.mixed = False

    def unbatch(self, because: str, cache: ModelCache | None) -> None:
        """From now on each request runs alone, and its answer is kept as a whole in `cache`."""
        self.batched, self.mixed, self.unbatched_because, self.cache = False, True, because, cache
        if self.cache_plan.enabled:
            self.cache_plan = CachePlan(True, "request", f"by whole requests: {because}")
