"""Pages for operators: `/admin`. Callers of models do not need them, and should not be able to reach them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from sluice.cache.cache import Cache, Cleared
from sluice.cache.remote.redis_link import CacheUnavailable
from sluice.cache.report import ModelState, RedisState, TierState
from sluice.gateway.pages.dependencies import CacheDependency, CatalogueDependency
from sluice.gateway.pages.errors import problem
from sluice.gateway.pages.parameters import ModelName


class TierPage(BaseModel):
    """One tier of one model version. All counts are of rows since the start."""

    tier: str
    lookups: int
    hits: int
    hit_ratio: float | None = Field(description="null until something was looked up.")
    errors: int = Field(description="Misses because nobody answered in time, or what came was not to be trusted.")
    stores: int
    drops: int = Field(description="Not stored, for want of room or of Redis.")
    evictions: int
    bypasses: int = Field(description="Not looked up, since the tier did not pay.")
    pays: bool
    cost_us: float | None = Field(description="What a lookup costs per row, in microseconds.")
    saves_us: float | None = Field(description="What a lookup saves per row: hit ratio times the model's time for one.")
    entries: int | None = Field(description="null for Redis, which others use too.")
    bytes: int | None


class ModelCachePage(BaseModel):
    """The cache of one model version."""

    model: str
    version: str
    scope: str = Field(description='What is looked up: each "row", or the whole "request".')
    followers: int = Field(description="Rows that waited for another request that computed them.")
    tiers: list[TierPage]


class RedisPage(BaseModel):
    """The connection to Redis: `closed` is in use, `open` left alone after failures, `half_open` being tried."""

    reads: str
    writes: str
    last_error: str | None
    queued_writes: int
    queued_bytes: int
    nodes: int | None = Field(description="How many nodes of a cluster hold rows; null where Redis is no cluster.")
    nodes_left_alone: int | None = Field(description="How many of those are not in use at this moment.")


class CachePage(BaseModel):
    """The whole cache. Models without one are not listed."""

    entries: int
    bytes: int
    max_bytes: int
    redis: RedisPage | None = Field(description="null where no Redis is configured.")
    models: list[ModelCachePage]


class ClearedPage(BaseModel):
    """How many entries were thrown away."""

    memory_entries: int
    redis_entries: int | None = Field(description="null where no Redis is configured.")


NOT_FOUND = problem(404, "Unknown model")
REDIS_GONE = problem(503, "The memory was cleared, but Redis does not answer")

router = APIRouter(prefix="/admin", tags=["admin"])


@router.get("/cache", summary="What the cache holds, and how well it does")
async def cache_page(cache: CacheDependency) -> CachePage:
    state = cache.state()
    return CachePage(
        entries=state.entries,
        bytes=state.size_bytes,
        max_bytes=state.max_bytes,
        redis=redis_page(state.redis),
        models=[_model_page(model) for model in state.models],
    )


@router.delete("/cache", summary="Throw away all entries", responses=REDIS_GONE)
async def clear_all(cache: CacheDependency) -> ClearedPage:
    return await _cleared(cache, None)


@router.delete(
    "/cache/{model}", summary="Throw away the entries of all versions of a model", responses=NOT_FOUND | REDIS_GONE
)
async def clear_model(model: ModelName, cache: CacheDependency, catalogue: CatalogueDependency) -> ClearedPage:
    catalogue.versions(model)
    return await _cleared(cache, model)


async def _cleared(cache: Cache, model: str | None) -> ClearedPage:
    try:
        cleared: Cleared = await cache.clear(model)
    except CacheUnavailable as error:
        raise CacheUnavailable(
            f"the memory was cleared, but Redis may hold entries still: {error}; try again later"
        ) from None
    return ClearedPage(memory_entries=cleared.memory_entries, redis_entries=cleared.redis_entries)


def redis_page(state: RedisState | None) -> RedisPage | None:
    """The state of Redis, as pages show it."""
    if state is None:
        return None
    return RedisPage(
        reads=state.reads,
        writes=state.writes,
        last_error=state.last_error,
        queued_writes=state.queued_writes,
        queued_bytes=state.queued_bytes,
        nodes=state.nodes,
        nodes_left_alone=state.nodes_left_alone,
    )


def _model_page(state: ModelState) -> ModelCachePage:
    return ModelCachePage(
        model=state.owner.model,
        version=str(state.owner.version),
        scope=state.scope,
        followers=state.followers,
        tiers=[_tier_page(tier) for tier in state.tiers],
    )


def _tier_page(state: TierState) -> TierPage:
    counts = state.counts
    return TierPage(
        tier=state.tier,
        lookups=counts.lookups,
        hits=counts.hits,
        hit_ratio=round(counts.hits / counts.lookups, 4) if counts.lookups else None,
        errors=counts.errors,
        stores=counts.stores,
        drops=counts.dropped,
        evictions=counts.evicted,
        bypasses=counts.bypassed,
        pays=state.pays,
        cost_us=_microseconds(state.cost_s),
        saves_us=_microseconds(state.saves_s),
        entries=state.entries,
        bytes=state.size_bytes,
    )


def _microseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e6, 3)
