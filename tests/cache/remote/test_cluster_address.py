"""Addresses of clusters, and what their nodes say of each other."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.cache.remote.cluster_address import cluster_address
from sluice.cache.remote.cluster_map import slot_ranges
from sluice.cache.remote.redis_link import CacheUnavailable, check_url
from sluice.cache.remote.slots import SlotRange


@pytest.mark.parametrize(
    ("url", "first", "seeds"),
    [
        ("redis+cluster://h", "redis://h", [("h", 6379)]),
        ("redis+cluster://h:7/0?client_name=x", "redis://h:7/0?client_name=x", [("h", 7)]),
        ("rediss+cluster://u:p@a:1,b,c:3/0", "rediss://u:p@a:1/0", [("a", 1), ("b", 6379), ("c", 3)]),
        ("redis+cluster://:p%40,@[::1]:6,10.0.0.1", "redis://:p%40,@[::1]:6", [("::1", 6), ("10.0.0.1", 6379)]),
    ],
)
def test_addresses(url: str, first: str, seeds: list[tuple[str, int]]) -> None:
    address = cluster_address(url)
    assert address is not None
    assert (address.url, list(address.seeds)) == (first, seeds)
    assert "p%40" not in repr(address)
    check_url(url)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:1/0", "unix:///run/redis.sock"])
def test_addresses_of_one_server(url: str) -> None:
    assert cluster_address(url) is None


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("redis+cluster://user:s3cret@h/1", "no database but 0"),
        ("redis+cluster://user:s3cret@h?db=2", "no database but 0"),
        ("redis+cluster://user:s3cret@h:port", "port"),
        ("redis+cluster://user:s3cret@h:1,:2", "without a host"),
        ("redis+cluster://user:s3cret@h,,i", "without a host"),
        ("redis+cluster://user:s3cret@h?colour=red", "colour"),
    ],
)
def test_wrong_addresses_are_told_without_the_password(url: str, because: str) -> None:
    with pytest.raises(ValueError, match="the address of Redis cannot be used") as told:
        check_url(url)
    assert because in str(told.value)
    assert "s3cret" not in str(told.value)


def test_what_a_node_says() -> None:
    replica = [b"10.0.0.9", 6379, b"id"]
    reply = [
        [0, 5, [b"10.0.0.1", 6379, b"id"], replica],
        [6, 6, [b"", 6380, b"id", []]],
        [7, 9, [None, 6381, b"id", [b"hostname", b"x"]], replica],
        [10, 12, [b"?", 6381, b"id"]],
        [13, 16383, [b"redis-2.local", 6382, b"id"]],
    ]
    assert slot_ranges(reply, "asked") == [
        SlotRange(0, 5, ("10.0.0.1", 6379)),
        SlotRange(6, 6, ("asked", 6380)),
        SlotRange(7, 9, ("asked", 6381)),
        SlotRange(13, 16383, ("redis-2.local", 6382)),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        7,
        [],
        [[]],
        [[0, 5]],
        [[0, 5, []]],
        [[0, 5, [b"h"]]],
        [[0, 5, [b"h", b"6379"]]],
        [[0, 5, [7, 6379, b"id"]]],
        [[5, 0, [b"h", 6379, b"id"]]],
        [[0, 16384, [b"h", 6379, b"id"]]],
        [[-1, 5, [b"h", 6379, b"id"]]],
        [[0, 5, [b"h", 0, b"id"]]],
        [[0, 5, [b"h", 65536, b"id"]]],
        [[b"0", b"5", [b"h", 6379, b"id"]]],
        [[0, 5, [b"?", 6379, b"id"]]],
        [[0, 5, [b"h", 6379, b"id"]], b"nonsense"],
    ],
)
def test_what_no_node_says(reply: Any) -> None:
    with pytest.raises(CacheUnavailable):
        slot_ranges(reply, "asked")
