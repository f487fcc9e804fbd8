"""Asks the nodes of a Redis Cluster which node has which slots."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.cache.remote.redis_link import (
    NO_CLUSTER,
    NOT_REDIS,
    CacheUnavailable,
    CommandForbidden,
    CommandRefused,
    Link,
    Reply,
)
from sluice.cache.remote.slots import SLOTS, Node, SlotRange

_UNKNOWN_HOST = b"?"


async def cluster_map(url: str, nodes: Sequence[Node], timeout_s: float) -> list[SlotRange]:
    """The slots and their nodes, as the first of `nodes` has it that answers.

    Each node has `timeout_s` to connect and as long to answer. Raises `CacheUnavailable` with what the last one said.
    """
    failed = CacheUnavailable("it cannot be reached")
    for node in nodes:
        try:
            async with Link(url, timeout_s, node) as link:
                await link.connect()
                return slot_ranges(await _told(link, timeout_s), node[0])
        except CacheUnavailable as error:
            failed = error
    raise failed


async def _told(link: Link, timeout_s: float) -> Reply:
    try:
        return await link.call(("CLUSTER", "SLOTS"), timeout_s)
    except CommandForbidden:
        raise
    except CommandRefused:
        raise CacheUnavailable(NO_CLUSTER) from None


def slot_ranges(reply: Reply, asked_host: str) -> list[SlotRange]:
    """The answer to CLUSTER SLOTS, replicas left out. Raises `CacheUnavailable` for what cannot be one.

    A node that knows no address of its own says none; it is where it was asked.
    """
    if not isinstance(reply, list):
        raise CacheUnavailable(NOT_REDIS)
    ranges = []
    for each in reply:
        match each:
            case [int() as first, int() as last, [host, int() as port, *_], *_] if (
                0 <= first <= last < SLOTS and 0 < port < 1 << 16 and (host is None or isinstance(host, bytes))
            ):
                if host != _UNKNOWN_HOST:
                    ranges.append(
                        SlotRange(first, last, (host.decode("ascii", "replace") if host else asked_host, port))
                    )
            case _:
                raise CacheUnavailable(NOT_REDIS)
    if not ranges:
        raise CacheUnavailable("the cluster is down: no slot has a node")
    return ranges
