"""A real Redis Cluster for tests: three servers, joined and cut up by the tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

SLOTS = 16384
BUS = 10_000
"""How far the port of the cluster's own talk is from that of a server."""


class RedisCluster:
    """Nodes with a third of the slots each. Where one is gone, the others go on unless the cluster is `strict`."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """All nodes, so that any of them may be gone when somebody begins to use it."""
        return "redis+cluster://" + ",".join([f"127.0.0.1:{server.port}" for server in self.servers])

    def client(self, number: int) -> Any:
        return self.servers[number].client

    def join(self) -> None:
        count = len(self.servers)
        for number, server in enumerate(self.servers):
            client: Any = server.client
            client.execute_command(
                "CLUSTER", "ADDSLOTS", *range(number * SLOTS // count, (number + 1) * SLOTS // count)
            )
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        self.settle()

    def settle(self) -> None:
        """Until every node has heard of every slot."""
        eventually(lambda: all(self._whole(number) for number in range(len(self.servers))))

    def _whole(self, number: int) -> bool:
        told = self.client(number).execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in told and b"cluster_slots_assigned:%d\r" % SLOTS in told

    def _port_of(self, number: int, slot: int) -> int:
        told = self.client(number).execute_command("CLUSTER", "SLOTS")
        return next(int(primary[1]) for first, last, primary, *_ in told if first <= slot <= last)

    def owner_of(self, name: bytes) -> int:
        """The number of the node that has a name, as the first node has it."""
        port = self._port_of(0, key_slot(name))
        return next(number for number, server in enumerate(self.servers) if server.port == port)

    def names(self) -> list[bytes]:
        return [name for number in range(len(self.servers)) for name in self.client(number).keys("*:*:*")]

    def begin_to_move(self, slot: int, source: int, target: int) -> None:
        """The source answers ASK for what it has not, the target only who asks so."""
        self.client(target).execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.client(source).execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, slot: int, source: int, target: int, most: int = 1000) -> None:
        names = self.client(source).execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
        port = self.servers[target].port
        for name in names:
            self.client(source).execute_command("MIGRATE", "127.0.0.1", port, name, 0, 10_000)

    def end_move(self, slot: int, target: int) -> None:
        """From now on the others answer MOVED."""
        for number in (target, *[other for other in range(len(self.servers)) if other != target]):
            self.client(number).execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def follow(self, replica: RedisServer, number: int) -> None:
        """Have a further server become the replica of a node, known to all others."""
        client: Any = replica.client
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[number].port)
        primary = self._id(number)
        eventually(lambda: primary in client.execute_command("CLUSTER", "NODES"))
        eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        client.execute_command("CLUSTER", "REPLICATE", primary)
        own = client.execute_command("CLUSTER", "MYID")
        eventually(lambda: all([own in self._replicas(number, primary) for number in range(len(self.servers))]))

    def _replicas(self, number: int, primary: bytes) -> bytes:
        told: list[bytes] = self.client(number).execute_command("CLUSTER", "REPLICAS", primary)
        return b"\n".join(told)

    def copied(self, replica: RedisServer) -> None:
        """Wait until the replica has all that its node has."""
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
        client: Any = replica.client
        eventually(lambda: client.dbsize() == self.client(0).dbsize())

    def _id(self, number: int) -> bytes:
        told: bytes = self.client(number).execute_command("CLUSTER", "MYID")
        return told


@contextmanager
def cluster_node(folder: Path, *, strict: bool = False) -> Iterator[RedisServer]:
    """A node that belongs to nothing yet; killed at the end."""
    options = [
        *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000"),
        *("--cluster-require-full-coverage", "yes" if strict else "no"),
    ]
    with redis_server(folder, *options, port=cluster_port()) as server:
        yield server


@contextmanager
def redis_cluster(folder: Path, *, strict: bool = False) -> Iterator[RedisCluster]:
    """Three nodes that have found each other; killed at the end."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(cluster_node(folder / str(number), strict=strict)) for number in range(3)]
        cluster = RedisCluster(nodes)
        cluster.join()
        yield cluster


def cluster_port() -> int:
    """A port that is free, and so is the one for the cluster's own talk."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + BUS))
            except (OSError, OverflowError):
                continue
            return port
