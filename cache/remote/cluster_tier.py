"""The shared tier where Redis is a cluster: a tier for each node, and a map that says which node has which rows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Self, TypeVar

import msgspec

from sluice.cache.remote.breaker import BreakerState
from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.cluster_map import cluster_map
from sluice.cache.remote.guard import Guard
from sluice.cache.remote.lookups import LookedUp
from sluice.cache.remote.redis_link import CacheUnavailable, slot_of
from sluice.cache.remote.shard import Shard
from sluice.cache.remote.slots import Node, even_tags, owner_of, tag_of
from sluice.cache.remote.tier import RedisOptions, RedisTier
from sluice.cache.report import RedisState, TierCounts

INCOMPLETE = "not every slot of the cluster has a node"

_WORST_FIRST = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED)
_T = TypeVar("_T")


class ClusterTier:
    """Rows spread over the nodes of a cluster, each of them used and left alone by itself. An async context manager.

    Implements `RemoteTier` with the bounds of `RedisTier`: what a node does costs the rows on it a lookup, and no other
    row. Which node has which slots is asked when entering and, in the background and at most every
    `breaker.LONGEST_PAUSE_S` in the long run, after a node has failed or said that a key is elsewhere; until the
    answer is there, such rows are misses. Entering takes at most three times `connect_timeout_s` for each node that the
    address names, and does not fail.
    """

    def __init__(
        self,
        options: RedisOptions,
        *,
        on_change: Callable[[str, str, str | None], None] = lambda side, state, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address = cluster_address(options.url)
        assert address is not None
        self._options = msgspec.structs.replace(options, url=address.url)
        self._seeds = address.seeds
        self._on_change = on_change
        self._clock = clock
        self._tags = even_tags(slot_of)
        self._owners: list[Node | None] = [None] * len(self._tags)
        self._tiers: dict[Node, RedisTier] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._map = Guard(self._look, self._of_the_map, clock)
        self._told_of: str | None = None
        self._failures: Counter[str] = Counter()
        """Of the map, and of nodes that have left."""
        self._ended = False

    async def __aenter__(self) -> Self:
        await self._map.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await self._map.__aexit__()
        for node in list(self._tiers):
            self._leave(node)
        if self._leaving:
            await asyncio.wait(self._leaving)

    @property
    def readable(self) -> bool:
        """Whether any lookup is answered, as far as is known."""
        return any([tier.readable for tier in self._tiers.values()])

    @property
    def longest_lookup_s(self) -> float:
        """How long a lookup takes at most: all nodes are asked at the same time."""
        return 2 * self._options.timeout_s

    @property
    def leasing(self) -> bool:
        """Whether gateways agree on who computes what."""
        return self._options.lease_s > 0

    async def lookup(self, space: str, keys: Sequence[bytes]) -> LookedUp | None:
        """The values of these keys, `None` for each whose node did not answer in time; `None` if no node did."""
        cost_s = 0.0
        answered = False

        async def look(tier: RedisTier, part: Sequence[bytes]) -> Sequence[bytes | None]:
            nonlocal cost_s, answered
            looked = await tier.lookup(space, part)
            if looked is None:
                return [None] * len(part)
            answered = True
            cost_s = max(cost_s, looked.cost_s)
            return looked.values

        values: Sequence[bytes | None] = await self._spread(keys, None, look)
        return LookedUp(values, cost_s) if answered else None

    def store(self, space: str, key: bytes, value: bytes, ttl_s: float, counts: TierCounts) -> bool:
        """Keep a value some time later, or drop it; `counts` hears of either. False if it is dropped at once."""
        tier = self._tier_of(key)
        queued_bytes = sum([each.queued_bytes for each in self._tiers.values()])
        if tier is None or queued_bytes + len(value) > self._options.max_queue_bytes:
            counts.dropped += 1
            return False
        return tier.store(space, key, value, ttl_s, counts)

    async def claim(self, space: str, keys: Sequence[bytes]) -> Sequence[bool]:
        """Which keys the caller is to compute; these include all whose node does not answer."""
        return await self._spread(keys, True, lambda tier, part: tier.claim(space, part))

    async def awaited(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys that another process has claimed, once they are there or the leases are over."""
        return await self._spread(keys, None, lambda tier, part: tier.awaited(space, part))

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        """Give claims back, some time later."""
        for node, places in self._places(keys).items():
            if node is not None:
                self._tiers[node].release(space, [keys[place] for place in places])

    async def forget(self, space: str | None) -> int:
        """Delete all keys of one space, or of every one under the prefix, on all nodes; how many there were.

        Raises `CacheUnavailable` where a node does not answer, with some of them deleted perhaps.
        """
        if not self._tiers or None in self._owners:
            raise CacheUnavailable(self._map.last_error or INCOMPLETE)
        return sum(await asyncio.gather(*[tier.forget(space) for tier in self._tiers.values()]))

    def state(self) -> RedisState:
        """A snapshot; `reads`, `writes` and `last_error` are those of the node that is worst off."""
        states = [tier.state() for tier in self._tiers.values()]
        failures = self._failures.copy()
        for each in states:
            failures.update(each.failures)
        errors = [each.last_error for each in states if _left_alone(each)] or [each.last_error for each in states]
        return RedisState(
            reads=_worst([each.reads for each in states]),
            writes=_worst([each.writes for each in states]),
            last_error=next((error for error in errors if error is not None), self._map.last_error),
            failures=dict(failures),
            queued_writes=sum([each.queued_writes for each in states]),
            queued_bytes=sum([each.queued_bytes for each in states]),
            nodes=len(states),
            nodes_left_alone=len([each for each in states if _left_alone(each)]),
        )

    # Who has what.

    def _tier_of(self, key: bytes) -> RedisTier | None:
        owner = self._owners[tag_of(key, self._tags)]
        return None if owner is None else self._tiers.get(owner)

    def _places(self, keys: Sequence[bytes]) -> dict[Node | None, list[int]]:
        places: dict[Node | None, list[int]] = {}
        for place, key in enumerate(keys):
            owner = self._owners[tag_of(key, self._tags)]
            places.setdefault(owner if owner in self._tiers else None, []).append(place)
        return places

    async def _spread(
        self,
        keys: Sequence[bytes],
        otherwise: _T,
        ask: Callable[[RedisTier, Sequence[bytes]], Awaitable[Sequence[_T]]],
    ) -> Sequence[_T]:
        """What the nodes say of their keys, in the keys' order; `otherwise` for those that no node has."""
        parts = [(self._tiers[node], places) for node, places in self._places(keys).items() if node is not None]
        if len(parts) == 1 and len(parts[0][1]) == len(keys):
            return await ask(parts[0][0], keys)
        told = [otherwise] * len(keys)
        asked = [ask(tier, [keys[place] for place in places]) for tier, places in parts]
        for (_, places), said in zip(parts, await asyncio.gather(*asked), strict=True):
            for place, each in zip(places, said, strict=True):
                told[place] = each
        return told

    # The map.

    async def _look(self) -> None:
        well = [node for node, tier in self._tiers.items() if tier.readable]
        try:
            nodes = list(dict.fromkeys([*well, *self._seeds, *self._tiers]))
            ranges = await cluster_map(self._options.url, nodes, self._options.connect_timeout_s)
        except CacheUnavailable:
            self._failures["map"] += 1
            raise
        owners = [owner_of(slot_of(tag), ranges) for tag in self._tags]
        async with asyncio.TaskGroup() as group:
            for node in {owner for owner in owners if owner is not None} - self._tiers.keys():
                group.create_task(self._join(node, owners))
        self._owners = owners
        for node in self._tiers.keys() - set(owners):
            self._leave(node)
        if None in owners:
            self._failures["map"] += 1
            raise CacheUnavailable(INCOMPLETE)  # nothing else would notice when it is no longer so

    async def _join(self, node: Node, owners: Sequence[Node | None]) -> None:
        first_name = self._options.prefix.encode() + self._tags[owners.index(node)]
        shard = Shard(node, self._tags, partial(self._name_on, node, first_name), self._trouble)
        tier = RedisTier(self._options, on_change=self._of_a_node, clock=self._clock, shard=shard)
        self._tiers[node] = await tier.__aenter__()

    def _name_on(self, node: Node, first_name: bytes) -> bytes:
        """A name that the node answers for, by the newest map that has the node."""
        if node not in self._owners:
            return first_name
        return self._options.prefix.encode() + self._tags[self._owners.index(node)]

    def _leave(self, node: Node) -> None:
        """Use a node no more; what waits to be written to it has a moment."""
        tier = self._tiers.pop(node)
        self._failures.update(tier.state().failures)
        leaving = asyncio.get_running_loop().create_task(tier.__aexit__())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _trouble(self, error: CacheUnavailable) -> None:
        """A node has failed, or does not have a key that it should: the map may be out of date."""
        if not self._ended:
            self._map.failed(error)

    def _of_a_node(self, side: str, state: str, reason: str | None) -> None:
        self._on_change(f"{side} of the rows on one node of the cluster", state, reason)

    def _of_the_map(self, state: BreakerState, reason: str | None) -> None:
        """Count rows that no node has; nodes count their own."""
        if reason is not None and None in self._owners:
            self._told_of = "some reads and writes" if self._tiers else "reads and writes"
            self._on_change(self._told_of, state, reason)
        elif reason is None and self._told_of is not None:
            self._on_change(self._told_of, state, None)
            self._told_of = None


def _worst(states: Sequence[str]) -> str:
    return next((state for state in _WORST_FIRST if state in states), BreakerState.OPEN)


def _left_alone(state: RedisState) -> bool:
    return not state.reads == state.writes == BreakerState.CLOSED
