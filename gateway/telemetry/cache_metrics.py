"""Metrics of the cache, made from the counts that the cache keeps itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.cache.cache import Cache
from sluice.cache.remote.breaker import BreakerState
from sluice.cache.report import CacheState, RedisState, TierCounts, TierState

VERSION_LABELS = ["model", "version"]
TIER_LABELS = [*VERSION_LABELS, "tier"]

COUNTS: Mapping[str, tuple[str, Callable[[TierCounts], int]]] = {
    "lookups": ("Rows that were looked up.", lambda counts: counts.lookups),
    "hits": ("Rows that were found.", lambda counts: counts.hits),
    "misses": ("Rows that were not found, for whatever reason.", lambda counts: counts.misses),
    "errors": (
        "Rows that were not found because nobody answered in time, or because what came was not to be trusted.",
        lambda counts: counts.errors,
    ),
    "stores": ("Rows that were stored.", lambda counts: counts.stores),
    "drops": ("Rows that were not stored, for want of room or of Redis.", lambda counts: counts.dropped),
    "evictions": ("Rows that had to make room before their time was over.", lambda counts: counts.evicted),
    "bypasses": ("Rows that were not looked up, since the tier did not pay.", lambda counts: counts.bypassed),
}
GAUGES: Mapping[str, tuple[str, Callable[[TierState], float | None]]] = {
    "entries": ("Entries held.", lambda state: state.entries),
    "bytes": ("Memory that the entries take, in bytes.", lambda state: state.size_bytes),
    "pays": ("1 while the tier is used, 0 while it is bypassed.", lambda state: float(state.pays)),
    "row_cost_seconds": ("What a lookup costs per row, storing included, in seconds.", lambda state: state.cost_s),
    "row_saving_seconds": (
        "What a lookup saves per row, in seconds: hit ratio times what the model takes for a row.",
        lambda state: state.saves_s,
    ),
}


class CacheCollector(Collector):
    """Reads the state of the cache at each scrape."""

    def __init__(self, cache: Cache, registry: CollectorRegistry) -> None:
        self._cache = cache
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The families without samples, so that registering them does not read the cache."""
        return [*_tier_families(()), _followers(None), _max_bytes(None), *_redis_families(None)]

    def collect(self) -> Iterable[Metric]:
        """The families with their samples."""
        state = self._cache.state()
        tiers = [
            ([model.owner.model, str(model.owner.version), tier.tier.value], tier)
            for model in state.models
            for tier in model.tiers
        ]
        return [*_tier_families(tiers), _followers(state), _max_bytes(state), *_redis_families(state.redis)]


def _tier_families(tiers: Iterable[tuple[Sequence[str], TierState]]) -> Iterable[Metric]:
    for name, (text, count) in COUNTS.items():
        counter = CounterMetricFamily(f"sluice_cache_{name}", text, labels=TIER_LABELS)
        for labels, tier in tiers:
            counter.add_metric(labels, count(tier.counts))
        yield counter
    for name, (text, read) in GAUGES.items():
        gauge = GaugeMetricFamily(f"sluice_cache_{name}", text, labels=TIER_LABELS)
        for labels, tier in tiers:
            if (value := read(tier)) is not None:
                gauge.add_metric(labels, value)
        yield gauge


def _followers(state: CacheState | None) -> Metric:
    text = "Rows that waited for another request that computed them."
    family = CounterMetricFamily("sluice_cache_single_flight_followers", text, labels=VERSION_LABELS)
    for model in state.models if state is not None else ():
        family.add_metric([model.owner.model, str(model.owner.version)], model.followers)
    return family


def _max_bytes(state: CacheState | None) -> Metric:
    family = GaugeMetricFamily("sluice_cache_max_bytes", "Memory that all entries together may take, in bytes.")
    if state is not None:
        family.add_metric([], state.max_bytes)
    return family


def _redis_families(redis: RedisState | None) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "sluice_redis_state", "1 for what is done with Redis now, for reads and for writes.", labels=["side", "state"]
    )
    failures = CounterMetricFamily(
        "sluice_redis_failures", "Commands that Redis did not answer in time or refused.", labels=["kind"]
    )
    writes = GaugeMetricFamily("sluice_redis_queued_writes", "Answers that wait to be sent to Redis.")
    size = GaugeMetricFamily("sluice_redis_queued_bytes", "Memory that those answers take, in bytes.")
    if redis is not None:
        for side, now in (("reads", redis.reads), ("writes", redis.writes)):
            for each in BreakerState:
                state.add_metric([side, each.value], float(each == now))
        for kind, count in redis.failures.items():
            failures.add_metric([kind], count)
        writes.add_metric([], redis.queued_writes)
        size.add_metric([], redis.queued_bytes)
    return [state, failures, writes, size]
