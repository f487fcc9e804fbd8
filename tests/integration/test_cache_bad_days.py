"""Whatever happens to Redis in the middle of traffic: not one prediction fails, and not one is wrong."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.integration.server import PATIENCE_S, PlainClient, SluiceProcess, serving, v2
from tests.redis_cluster import RedisCluster
from tests.redis_server import RedisServer, redis_server

EXAMPLES = Path("examples/models")
CLIENTS = 8
PAUSE_S = 0.02
"""Between the calls of a client: at most 400 calls a second in all, which leaves the processor to the others."""


class Traffic:
    """Clients that ask for few rows again and again and for some that are new, and look at every answer."""

    def __init__(self, server: SluiceProcess) -> None:
        self._server = server
        self._answers = 0
        self._answered = threading.Condition()
        self._stop = threading.Event()

    def wait(self, answers: int) -> None:
        """Until so many more have come."""
        with self._answered:
            enough = self._answers + answers
            assert self._answered.wait_for(lambda: self._answers >= enough, PATIENCE_S)

    def call(self, seed: int) -> None:
        draw = Random(seed)
        with closing(PlainClient(self._server)) as client:
            while not self._stop.wait(PAUSE_S):
                numbers = [draw.choice([draw.randrange(5), draw.randrange(10**6)]) for _ in range(draw.randrange(1, 4))]
                body = v2("x", [len(numbers), 1], [float(number) for number in numbers])
                answer = client.infer("linear", body, headers={})
                assert answer.status == 200, answer.body
                assert answer.json()["outputs"][0]["data"] == [2 * number - 1 for number in numbers]
                assert answer.headers["x-cache"]
                with self._answered:
                    self._answers += 1
                    self._answered.notify_all()

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def traffic(redis: RedisServer | RedisCluster, *settings: str) -> Iterator[tuple[SluiceProcess, Traffic]]:
    """A gateway without a memory tier, so that every row is looked up in Redis, under load."""
    given = dict(each.split("=") for each in settings)
    variables = {"REDIS_URL": redis.url, "MEMORY_BYTES": "0", "ADAPTIVE": "false"} | given
    environment = os.environ | {f"SLUICE_CACHE_{name}": value for name, value in variables.items()}
    with serving(EXAMPLES, env=environment) as server, ThreadPoolExecutor(CLIENTS) as pool:
        load = Traffic(server)
        calls = [pool.submit(load.call, seed) for seed in range(CLIENTS)]
        try:
            load.wait(200)
            yield server, load
            load.wait(200)
        finally:
            load.stop()
        for call in calls:
            call.result()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def until(load: Traffic, condition: Callable[[], bool]) -> None:
    """Let traffic go on until something is so. Looks at it after every `CLIENTS` answers."""
    while not condition():
        load.wait(CLIENTS)


def reads(server: SluiceProcess) -> str:
    state: str = server.client.get("/v2/health").json()["cache"]["redis"]["reads"]
    return state


def writes(server: SluiceProcess) -> str:
    state: str = server.client.get("/v2/health").json()["cache"]["redis"]["writes"]
    return state


def found(server: SluiceProcess) -> float:
    return server.metric("sluice_cache_hits_total", tier="redis")


def until_found_again(server: SluiceProcess, load: Traffic) -> None:
    before = found(server)
    until(load, lambda: reads(server) == "closed" and found(server) > before)


def test_killed_and_restarted(redis: RedisServer) -> None:
    with traffic(redis) as (server, load):
        until(load, lambda: found(server) > 0)
        for _ in range(3):
            redis.kill()
            until(load, lambda: reads(server) != "closed")
            load.wait(200)
            redis.start()
            until_found_again(server, load)
        assert server.client.get("/v2/health/ready").status_code == 200


def test_frozen(redis: RedisServer) -> None:
    with traffic(redis) as (server, load):
        until(load, lambda: found(server) > 0)
        redis.freeze()
        until(load, lambda: reads(server) != "closed")
        load.wait(200)
        redis.thaw()
        until_found_again(server, load)


def test_paused(redis: RedisServer) -> None:
    with traffic(redis) as (server, load):
        redis.client.client_pause(3000)
        until(load, lambda: reads(server) != "closed")
        load.wait(200)
        until(load, lambda: reads(server) == "closed")


def test_full(redis: RedisServer) -> None:
    with traffic(redis) as (server, load):
        until(load, lambda: found(server) > 0)
        redis.client.config_set("maxmemory-policy", "noeviction")
        redis.client.config_set("maxmemory", "1")
        until(load, lambda: writes(server) != "closed")
        before = found(server)
        until(load, lambda: found(server) > before)
        redis.client.config_set("maxmemory", "0")
        until(load, lambda: writes(server) == "closed")


def test_values_that_somebody_has_damaged(redis: RedisServer) -> None:
    with traffic(redis) as (server, load):
        until(load, lambda: found(server) > 0)
        draw = Random(1)
        client: Any = redis.client
        for _ in range(10):
            names = sorted(client.keys("sluice:*:*"))
            for name in draw.sample(names, min(50, len(names))):
                value = client.get(name)
                if value:
                    place = draw.randrange(len(value))
                    damaged = value[:place] + bytes([value[place] ^ 0xFF]) + value[place + 1 :]
                    client.set(name, draw.choice([damaged, value[:place], b"nonsense"]), px=60_000)
            load.wait(20)
        until(load, lambda: server.metric("sluice_cache_errors_total", tier="redis") > 0)


def test_something_else_in_its_place(redis: RedisServer) -> None:
    """Whatever listens on Redis's port says nonsense to everybody."""
    with traffic(redis) as (server, load):
        until(load, lambda: found(server) > 0)
        redis.kill()
        stop = threading.Event()

        def talk(listener: socket.socket) -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n*1\r\n$1\r\nx\r\n" * 100)

        with socket.create_server(("127.0.0.1", redis.port)) as listener:
            listener.settimeout(0.1)
            talking = threading.Thread(target=talk, args=(listener,))
            talking.start()
            until(load, lambda: reads(server) != "closed")
            load.wait(200)
            stop.set()
            talking.join()
        redis.start()
        until(load, lambda: reads(server) == "closed")


def test_gateways_that_agree_who_computes_what_never_wait_for_the_dead(redis: RedisServer) -> None:
    """One of two gateways with leases is killed again and again; the other one answers everything."""
    with traffic(redis, "REDIS_LEASE_MS=200") as (server, load):
        for _ in range(3):
            with traffic(redis, "REDIS_LEASE_MS=200") as (other, _):
                other_load = other.metric("sluice_requests_total")
                assert other_load > 0
            load.wait(100)
        redis.freeze()
        load.wait(100)
        redis.thaw()
        until(load, lambda: reads(server) == "closed")


def test_stopping_under_load_with_a_frozen_redis_loses_nothing(redis: RedisServer) -> None:
    environment = os.environ | {"SLUICE_CACHE_REDIS_URL": redis.url}
    with serving(EXAMPLES, env=environment) as server:
        statuses = [server.infer("linear", v2("x", [1, 1], [float(number)])).status_code for number in range(20)]
        redis.freeze()
        statuses += [server.infer("linear", v2("x", [1, 1], [float(number)])).status_code for number in range(20, 40)]
        assert server.stop() == 0
    assert statuses == [200] * 40
