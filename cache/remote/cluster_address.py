"""Addresses of a Redis Cluster: `redis+cluster://` and `rediss+cluster://`, with one of its nodes or several."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import msgspec

from sluice.cache.remote.slots import Node

SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
"""What a cluster's address begins with, and what that of one of its nodes would begin with."""

PORT = 6379


class ClusterAddress(msgspec.Struct, frozen=True):
    """`url` is redis-py's address of the first node; `seeds` are all that are named, to ask for the others."""

    url: str
    seeds: tuple[Node, ...]

    def __repr__(self) -> str:
        """Without the address, which may have a password in it."""
        return f"ClusterAddress({len(self.seeds)} nodes)"


def cluster_address(url: str) -> ClusterAddress | None:
    """What an address says of a cluster, `None` if it is not that of one. Raises `ValueError` for no host or port."""
    parts = urlsplit(url)
    if (scheme := SCHEMES.get(parts.scheme)) is None:
        return None
    user, at, hosts = parts.netloc.rpartition("@")
    seeds = tuple([_node(host) for host in hosts.split(",")])
    first = parts._replace(scheme=scheme, netloc=f"{user}{at}{hosts.split(',', maxsplit=1)[0]}")
    return ClusterAddress(urlunsplit(first), seeds)


def _node(host: str) -> Node:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("a node without a host")
    return parts.hostname, parts.port or PORT
