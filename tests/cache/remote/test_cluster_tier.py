"""The tier of a Redis Cluster with a real one of three servers, which die, freeze, move slots and are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sluice.cache.remote.cluster_tier import ClusterTier
from sluice.cache.remote.redis_link import A_CLUSTER, NO_CLUSTER, CacheUnavailable, slot_of
from sluice.cache.remote.tier import RedisOptions, RedisTier
from tests.cache.remote_tiers import PATIENT, SPACE, counts, until
from tests.redis_cluster import RedisCluster, cluster_node, redis_cluster
from tests.redis_server import RedisServer, redis_server

KEYS = [number.to_bytes(16, "little") for number in range(192)]
"""Rows on every node: three for each hash tag."""

BRISK: dict[str, Any] = {"timeout_s": 1.0, "connect_timeout_s": 1.0}
"""For nodes that do not answer at all."""


async def stored(tier: ClusterTier, keys: Sequence[bytes] = KEYS) -> int:
    """Store a value for each key that is the key; how many were taken."""
    told = counts()
    for key in keys:
        tier.store(SPACE, key, key, 60.0, told)
    await until(lambda: told.stores + told.dropped == len(keys))
    return told.stores


async def found(tier: ClusterTier, keys: Sequence[bytes] = KEYS) -> set[bytes]:
    """The keys whose values are found, all of them right."""
    looked = await tier.lookup(SPACE, keys)
    if looked is None:
        return set()
    assert all([value in (None, key) for key, value in zip(keys, looked.values, strict=True)])
    return {value for value in looked.values if value is not None}


async def until_found(tier: ClusterTier, keys: Sequence[bytes] = KEYS) -> None:
    async with asyncio.timeout(30):
        while await found(tier, keys) != set(keys):
            await stored(tier, keys)


async def until_it_finds(tier: ClusterTier, keys: set[bytes]) -> None:
    """Look up, and store nothing, until these keys are found and no others."""
    async with asyncio.timeout(30):
        while await found(tier) != keys:  # noqa: ASYNC110 - what happens in another process sets no event here
            await asyncio.sleep(0.002)


def on_node(cluster: RedisCluster, tier: ClusterTier, number: int) -> set[bytes]:
    """The keys that this node has."""
    port = cluster.servers[number].port
    return {key for key in KEYS if tier._owners[tier._tags.index(tag(tier, key))] == ("127.0.0.1", port)}


def tag(tier: ClusterTier, key: bytes) -> bytes:
    return tier._tags[key[0] % len(tier._tags)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: RedisCluster) -> RedisCluster:
    for server in shared.servers:
        server.client.flushall()
    return shared


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster to be maltreated."""
    with redis_cluster(tmp_path / "cluster") as cluster:
        yield cluster


async def test_what_is_stored_is_found_by_others_whichever_node_they_know(cluster: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(cluster.url, **PATIENT)) as one:
        assert await stored(one) == len(KEYS)
        for server in cluster.servers:
            options = RedisOptions(f"redis+cluster://127.0.0.1:{server.port}/0", **PATIENT)
            async with ClusterTier(options) as other:
                assert await found(other) == set(KEYS)
                looked = await other.lookup("another space", KEYS)
                assert looked is not None
                assert set(looked.values) == {None}
                assert looked.cost_s > 0
    sizes = [len(server.client.keys("sluice:*")) for server in cluster.servers]
    assert sum(sizes) == len(KEYS)
    assert max(sizes) < 1.2 * min(sizes), "each node has its share"


async def test_values_come_in_the_order_of_their_keys(cluster: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(cluster.url, **PATIENT)) as tier:
        await stored(tier, KEYS[::2])
        for keys in (KEYS[::-1], KEYS[5:6], KEYS[4:5], KEYS[30:40] * 3, []):
            looked = await tier.lookup(SPACE, keys) if keys else None
            expected = [key if key in KEYS[::2] else None for key in keys]
            assert list(looked.values if looked else []) == expected


async def test_many_rows_are_few_commands(cluster: RedisCluster) -> None:
    def commands() -> int:
        told = [server.client.info("commandstats").get("cmdstat_mget", {"calls": 0}) for server in cluster.servers]
        return sum([each["calls"] for each in told])

    keys = [number.to_bytes(16, "little") for number in range(400)]
    async with ClusterTier(RedisOptions(cluster.url, **PATIENT)) as tier:
        assert await stored(tier, keys) == len(keys)
        before = commands()
        looked = await asyncio.gather(*[found(tier, keys[number::10]) for number in range(10)])
        assert set().union(*looked) == set(keys)
        assert commands() - before <= 64, "one for each hash tag"


async def test_forgetting_deletes_on_every_node(cluster: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(cluster.url, **PATIENT)) as tier:
        await stored(tier)
        told = counts()
        tier.store("f" * 16, KEYS[0], b"v", 60.0, told)
        await until(lambda: told.stores == 1)
        assert await tier.forget(SPACE) == len(KEYS)
        assert await tier.forget(None) == 1
    assert cluster.names() == []


async def test_one_of_two_gateways_computes_each_row(cluster: RedisCluster) -> None:
    options = RedisOptions(cluster.url, lease_s=20.0, **PATIENT)
    async with ClusterTier(options) as one, ClusterTier(options) as other:
        assert one.leasing
        assert await one.claim(SPACE, KEYS[:20]) == [True] * 20
        assert await other.claim(SPACE, KEYS[10:30]) == [False] * 10 + [True] * 10
        waiting = asyncio.ensure_future(other.awaited(SPACE, KEYS[10:20]))
        await stored(one, KEYS[10:15])
        one.release(SPACE, KEYS[15:20])
        async with asyncio.timeout(15):
            assert list(await waiting) == [*KEYS[10:15], *[None] * 5]


async def test_writes_that_wait_are_bounded_over_all_nodes(cluster: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(cluster.url, max_queue_bytes=6000, **PATIENT)) as tier:
        told = counts()
        for key in KEYS:
            tier.store(SPACE, key, b"x" * 300, 60.0, told)
        assert tier.state().queued_bytes <= 6000
        waiting = tier.state().queued_writes
        assert told.dropped == len(KEYS) - waiting
        await until(lambda: told.stores == waiting)


async def test_a_user_and_a_password(own: RedisCluster) -> None:
    commands = [f"+{name}" for name in ("mget", "set", "scan", "unlink", "ping", "select", "eval", "get", "del")]
    for server in own.servers:
        client = server.client
        client.acl_setuser("gate", enabled=True, passwords=["+s3cret"], keys=["sluice:*"], commands=commands)
    url = own.url.replace("//", "//gate:s3cret@")
    async with ClusterTier(RedisOptions(url, **PATIENT)) as tier:
        assert not tier.readable
        assert tier.state().last_error == "the user may not do this", "it must hear of the slots"
    for server in own.servers:
        server.client.acl_setuser("gate", enabled=True, commands=["+cluster|slots"])
    async with ClusterTier(RedisOptions(url, **PATIENT)) as tier:
        await stored(tier)
        assert await found(tier) == set(KEYS)
        assert await tier.forget(None) == len(KEYS)
        assert "s3cret" not in repr(tier.state()) + repr(tier._options)


# Bad days.


async def test_a_node_that_dies_takes_its_own_rows_only(own: RedisCluster) -> None:
    changes: list[tuple[str, str, str | None]] = []
    options = RedisOptions(own.url, **PATIENT)
    async with ClusterTier(options, on_change=lambda *change: changes.append(change)) as tier:
        await until_found(tier)
        gone = on_node(own, tier, 1)
        own.servers[1].kill()
        assert await found(tier) == set(KEYS) - gone
        state = tier.state()
        assert (state.nodes, state.nodes_left_alone, state.reads) == (3, 1, "open")
        assert state.last_error == "it cannot be reached"
        assert tier.readable
        assert await stored(tier) == len(KEYS) - len(gone)
        with pytest.raises(CacheUnavailable, match="cannot be reached"):
            await tier.forget(None)
        await until(lambda: len(changes) == 2)
        assert {side.partition(" ")[2] for side, _, _ in changes} == {"of the rows on one node of the cluster"}
        own.servers[1].start()
        own.settle()
        await until(lambda: tier.state().nodes_left_alone == 0)
        await until_found(tier)
        assert [reason for _, _, reason in changes[2:]] == [None, None]


async def test_a_frozen_node_costs_the_others_nothing(own: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(own.url, **BRISK)) as tier:
        await until_found(tier)
        frozen = on_node(own, tier, 2)
        own.servers[2].freeze()
        looked = await asyncio.gather(*[found(tier) for _ in range(8)])
        assert looked == [set(KEYS) - frozen] * 8
        state = tier.state()
        assert (state.nodes_left_alone, state.failures["read"]) == (1, 1), "it was waited for once"
        assert await found(tier) == set(KEYS) - frozen
        own.servers[2].thaw()
        own.settle()
        await until(lambda: tier.state().nodes_left_alone == 0)
        await until_found(tier)


async def test_a_slot_that_moves(own: RedisCluster) -> None:
    async with ClusterTier(RedisOptions(own.url, **PATIENT)) as tier:
        await until_found(tier)
        moving = on_node(own, tier, 0)
        first = tag(tier, min(moving))
        slot = slot_of(first)
        there = {key for key in KEYS if tag(tier, key) == first}
        assert len(there) == 3

        own.begin_to_move(slot, 0, 1)
        assert await found(tier) == set(KEYS), "nothing has gone yet"
        own.move_keys(slot, 0, 1, most=1)
        assert await found(tier) >= set(KEYS) - there, "TRYAGAIN for those of its slot together"
        own.move_keys(slot, 0, 1)
        assert await found(tier) == set(KEYS) - there, "ASK"
        assert await stored(tier) == len(KEYS) - 3, "new ones would go where they cannot be asked for"
        assert tier.state().nodes_left_alone == 0, "no node has failed"

        own.end_move(slot, 1)
        async with asyncio.timeout(30):
            while await found(tier) != set(KEYS):
                assert tier.state().nodes_left_alone == 0, "MOVED is no failure"
        assert on_node(own, tier, 0) == moving - there
        assert await stored(tier) == len(KEYS)


async def test_nodes_that_leave_and_join(own: RedisCluster) -> None:
    """All slots of one node move to another one, and back."""
    async with ClusterTier(RedisOptions(own.url, **PATIENT)) as tier:
        await until_found(tier)
        leaving = on_node(own, tier, 2)
        slots = sorted({slot_of(tag(tier, key)) for key in leaving})
        for source, target, nodes in ((2, 0, 2), (0, 2, 3)):
            for slot in slots:
                own.begin_to_move(slot, source, target)
                own.move_keys(slot, source, target)
                own.end_move(slot, target)
            async with asyncio.timeout(30):
                while tier.state().nodes != nodes:
                    await found(tier)
            await until_it_finds(tier, set(KEYS))
            assert tier.state().nodes_left_alone == 0
        assert on_node(own, tier, 2) == leaving


async def test_a_replica_takes_the_place_of_its_node(own: RedisCluster, tmp_path: Path) -> None:
    with cluster_node(tmp_path / "replica") as replica:
        own.follow(replica, 0)
        async with ClusterTier(RedisOptions(own.url, **PATIENT)) as tier:
            await until_found(tier)
            await asyncio.to_thread(own.copied, replica)
            moved = on_node(own, tier, 0)
            own.servers[0].kill()
            assert await found(tier) == set(KEYS) - moved
            await until_it_finds(tier, set(KEYS))
            assert ("127.0.0.1", replica.port) in tier._owners
            state = tier.state()
            assert (state.nodes, state.nodes_left_alone) == (3, 0)


async def test_slots_that_no_node_has_for_a_while(own: RedisCluster) -> None:
    changes: list[tuple[str, str, str | None]] = []
    slots = range(16384 // 3)
    for number in range(3):
        own.client(number).execute_command("CLUSTER", "DELSLOTS", *slots)
    options = RedisOptions(own.url, **PATIENT)
    async with ClusterTier(options, on_change=lambda *change: changes.append(change)) as tier:
        assert tier.readable
        homeless = {key for key in KEYS if tier._owners[tier._tags.index(tag(tier, key))] is None}
        assert 0 < len(homeless) < len(KEYS) / 2
        assert await stored(tier) == len(KEYS) - len(homeless)
        assert await found(tier) == set(KEYS) - homeless
        assert await tier.claim(SPACE, sorted(homeless)[:2]) == [True] * 2
        with pytest.raises(CacheUnavailable, match="not every slot"):
            await tier.forget(None)
        await until(lambda: bool(changes))
        assert changes == [("some reads and writes", "open", "not every slot of the cluster has a node")]
        own.client(0).execute_command("CLUSTER", "ADDSLOTS", *slots)
        await until(lambda: len(changes) == 2)
        assert changes[1] == ("some reads and writes", "closed", None)
        await until_found(tier)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_leaving_does_not_wait_for_nodes_that_are_gone(own: RedisCluster, how: str) -> None:
    told = counts()
    async with asyncio.timeout(20):
        async with ClusterTier(RedisOptions(own.url, **BRISK)) as tier:
            await until_found(tier)
            for server in own.servers[:2]:
                if how == "killed":
                    server.kill()
                else:
                    server.freeze()
            for key in KEYS:
                tier.store(SPACE, key, key, 60.0, told)
    assert told.stores + told.dropped == len(KEYS)
    assert 0 < told.stores < len(KEYS)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, "nothing goes on"


async def test_a_cluster_that_answers_nothing_while_a_node_is_gone(tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "strict", strict=True) as own:
        async with ClusterTier(RedisOptions(own.url, lease_s=1.0, **PATIENT)) as tier:
            await until_found(tier)
            own.servers[1].kill()
            await until_it_finds(tier, set())
            assert tier.state().last_error in (
                "the cluster is down: not every slot has a node",
                "it cannot be reached",
            )
            assert await tier.claim(SPACE, KEYS[:3]) == [True] * 3
            own.servers[1].start()
            own.settle()
            await until(lambda: tier.state().nodes_left_alone == 0)
            await until_found(tier)


async def test_a_cluster_that_is_not_there_at_first(own: RedisCluster) -> None:
    for server in own.servers:
        server.kill()
    changes: list[tuple[str, str, str | None]] = []
    options = RedisOptions(own.url, lease_s=1.0, **PATIENT)
    async with ClusterTier(options, on_change=lambda *change: changes.append(change)) as tier:
        assert not tier.readable
        assert await found(tier) == set()
        assert await stored(tier) == 0
        assert await tier.claim(SPACE, KEYS[:3]) == [True] * 3
        assert await tier.awaited(SPACE, KEYS[:3]) == [None] * 3
        tier.release(SPACE, KEYS[:3])
        with pytest.raises(CacheUnavailable, match="cannot be reached"):
            await tier.forget(SPACE)
        await until(lambda: bool(changes))
        assert changes == [("reads and writes", "open", "it cannot be reached")]
        state = tier.state()
        assert (state.reads, state.writes, state.nodes) == ("open", "open", 0)
        for server in own.servers:
            server.start()
        own.settle()
        await until(lambda: tier.state().nodes_left_alone == 0 and tier.state().nodes == 3)
        await until_found(tier)
        assert ("reads and writes", "closed", None) in changes


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_the_first_node_of_the_address_is_gone(own: RedisCluster, how: str) -> None:
    if how == "killed":
        own.servers[0].kill()
    else:
        own.servers[0].freeze()
    async with ClusterTier(RedisOptions(own.url, **BRISK)) as tier:
        others = on_node(own, tier, 1) | on_node(own, tier, 2)
        assert len(others) > len(KEYS) / 2
        assert await stored(tier, sorted(others)) == len(others)
        assert await found(tier) == others


async def test_all_nodes_have_gone_and_the_address_leads_to_others(cluster: RedisCluster, own: RedisCluster) -> None:
    """As where names stay and machines behind them are replaced."""
    url = f"redis+cluster://127.0.0.1:{own.servers[0].port},127.0.0.1:{cluster.servers[0].port}"
    async with ClusterTier(RedisOptions(url, **PATIENT)) as tier:
        await until_found(tier)
        for server in own.servers:
            server.kill()
        assert await found(tier) == set()
        before = tier.state().failures["read"]
        assert before >= 3
        await until_found(tier)
        assert tier.state().failures["read"] >= before, "what only rises never falls"
        assert len(cluster.names()) == len(KEYS)
        assert (tier.state().nodes, tier.state().nodes_left_alone) == (3, 0)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


async def test_an_address_of_a_cluster_that_is_none(alone: RedisServer) -> None:
    changes: list[tuple[str, str, str | None]] = []
    options = RedisOptions(alone.url.replace("redis:", "redis+cluster:"), **PATIENT)
    async with ClusterTier(options, on_change=lambda *change: changes.append(change)) as tier:
        assert tier.state().last_error == NO_CLUSTER
        await until(lambda: bool(changes))
        await until(lambda: tier.state().failures["map"] > 3)
        assert changes == [("reads and writes", "open", NO_CLUSTER)], "it is said once"


@pytest.mark.parametrize("nodes", ["three", "one with all slots", "one with no slots"])
async def test_an_address_of_one_server_that_is_a_cluster(shared: RedisCluster, tmp_path: Path, nodes: str) -> None:
    with cluster_node(tmp_path / "node") as node:
        server = shared.servers[0] if nodes == "three" else node
        if nodes == "one with all slots":
            client: Any = node.client
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        changes: list[tuple[str, str, str | None]] = []
        options = RedisOptions(server.url, **PATIENT)
        async with RedisTier(options, on_change=lambda *change: changes.append(change)) as tier:
            assert not tier.readable
            assert "cluster" in str(tier.state().last_error).lower()
            await until(lambda: bool(changes))
            await until(lambda: tier.state().failures["read"] > 4)
            if nodes != "one with no slots":
                assert changes == [("reads", "open", A_CLUSTER)], "it is said once"


async def test_a_prefix_with_a_hash_tag_uses_one_node_as_one_server(shared: RedisCluster) -> None:
    """Who knows what a cluster is may give one slot to Sluice."""
    server = shared.servers[shared.owner_of(b"{sluice}")]
    async with RedisTier(RedisOptions(server.url, prefix="{sluice}:", **PATIENT)) as tier:
        told = counts()
        for key in KEYS[:5]:
            tier.store(SPACE, key, key, 60.0, told)
        await until(lambda: told.stores == 5)
        looked = await tier.lookup(SPACE, KEYS[:6])
        assert looked is not None
        assert list(looked.values) == [*KEYS[:5], None]
