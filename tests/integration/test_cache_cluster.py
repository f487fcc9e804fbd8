"""A gateway with a Redis Cluster: rows are shared through all of its nodes, and none of them can fail a prediction."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.cache.remote.redis_link import slot_of
from sluice.cache.remote.slots import even_tags
from tests.integration.server import SluiceProcess, serving, v2
from tests.integration.test_cache_bad_days import EXAMPLES, found, traffic, until
from tests.redis_cluster import RedisCluster, redis_cluster
from tests.waiting import eventually

ROWS = [float(number) for number in range(64)]
PATIENT = {"SLUICE_CACHE_REDIS_TIMEOUT_MS": "5000", "SLUICE_CACHE_REDIS_CONNECT_TIMEOUT_MS": "5000"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path / "cluster") as nodes:
        yield nodes


def env(url: str, **more: str) -> dict[str, str]:
    return dict(os.environ) | {"SLUICE_CACHE_REDIS_URL": url, "SLUICE_CACHE_ADAPTIVE": "false"} | PATIENT | more


def ask(server: SluiceProcess) -> httpx.Response:
    body = v2("x", [len(ROWS), 1], ROWS)
    answer = server.client.post("/v2/models/linear/infer", json=body, headers={"Cache-Control": ""})
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [2 * row - 1 for row in ROWS]
    return answer


def state(server: SluiceProcess) -> dict[str, Any]:
    told: dict[str, Any] = server.client.get("/v2/health").json()["cache"]["redis"]
    return told


def has_nodes(server: SluiceProcess, nodes: int) -> bool:
    return bool(state(server)["nodes"] == nodes)


def test_gateways_share_rows_through_all_nodes(cluster: RedisCluster) -> None:
    with serving(EXAMPLES, env=env(cluster.url)) as first:
        assert ask(first).headers["x-cache"] == "miss; rows=0/64"
        eventually(lambda: len(cluster.names()) == len(ROWS))
        with serving(EXAMPLES, env=env(cluster.url)) as second:
            assert ask(second).headers["x-cache"] == "hit; rows=64/64"
            told = state(second)
            assert (told["nodes"], told["nodes_left_alone"], told["reads"], told["writes"]) == (
                3,
                0,
                "closed",
                "closed",
            )
            assert second.client.delete("/admin/cache").json()["redis_entries"] == len(ROWS)
    assert cluster.names() == []


@pytest.mark.parametrize("how", ["dies", "freezes"])
def test_a_node_goes_and_comes_back_under_load(cluster: RedisCluster, how: str) -> None:
    with traffic(cluster) as (server, load):
        until(load, lambda: found(server) > 0)
        if how == "dies":
            cluster.servers[1].kill()
        else:
            cluster.servers[1].freeze()
        until(load, lambda: state(server)["nodes_left_alone"] > 0)
        before = found(server)
        until(load, lambda: found(server) > before)
        assert server.client.get("/v2/health/ready").status_code == 200
        if how == "dies":
            cluster.servers[1].start()
        else:
            cluster.servers[1].thaw()
        until(load, lambda: state(server)["nodes_left_alone"] == 0)


def test_slots_move_back_and_forth_under_load(cluster: RedisCluster) -> None:
    """A third of the cache changes its node, key by key, and returns."""
    with traffic(cluster) as (server, load):
        until(load, lambda: found(server) > 0)
        slots = [slot_of(tag) for tag in even_tags(slot_of)]
        for source, target, nodes in ((0, 1, 2), (1, 0, 3)):
            for slot in [slot for slot in slots if slot < 16384 // 3]:
                cluster.begin_to_move(slot, source, target)
                load.wait(5)
                cluster.move_keys(slot, source, target)
                load.wait(5)
                cluster.end_move(slot, target)
            until(load, partial(has_nodes, server, nodes))
        before = found(server)
        until(load, lambda: found(server) > before)


def test_all_nodes_die_and_come_back_under_load(cluster: RedisCluster) -> None:
    with traffic(cluster, "REDIS_LEASE_MS=200") as (server, load):
        until(load, lambda: found(server) > 0)
        for node in cluster.servers:
            node.kill()
        until(load, lambda: state(server)["nodes_left_alone"] == 3)
        load.wait(200)
        for node in cluster.servers:
            node.start()
        until(load, lambda: state(server)["nodes_left_alone"] == 0)
        before = found(server)
        until(load, lambda: found(server) > before)


def test_a_plain_address_of_a_cluster_is_told_once(cluster: RedisCluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, "--log-format", "json", env=env(cluster.servers[0].url), log=log) as server:
        eventually(lambda: "Redis alone" in log.read_text())
        failures = server.metric("sluice_redis_failures_total")

        def more_have_failed() -> bool:
            ask(server)
            return server.metric("sluice_redis_failures_total") >= failures + 4

        eventually(more_have_failed)
        assert "redis+cluster://" in state(server)["last_error"]
        assert server.client.get("/v2/health/ready").status_code == 200
        assert server.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line for line in lines if "edis" in str(line.get("event"))]
    assert len(told) == 1
    assert "redis+cluster://" in told[0]["because"]
    assert cluster.names() == []


def test_a_prefix_that_a_cluster_would_read_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = env("redis+cluster://127.0.0.1:1", SLUICE_CACHE_REDIS_PREFIX="{a}:")
    with pytest.raises(AssertionError, match="did not become ready"), serving(EXAMPLES, env=settings, log=log):
        pass
    assert "cache.redis_prefix" in log.read_text()
