"""Where keys live in a Redis Cluster: few hash tags, spread evenly over the slots. Pure.

A cluster answers an MGET only if all of its keys are in one slot. With a slot for each key, a lookup of many rows would
be as many commands; with one slot for each model, one node would hold the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

SLOTS = 16384
"""The number of slots, by the cluster's specification."""

TAGS = 64
"""The number of hash tags: the most commands for a lookup, and the most nodes that share the cache."""

Node = tuple[str, int]
"""The host and the port of a node."""


class SlotRange(msgspec.Struct, frozen=True):
    """Slots from `first` to `last`, both included, and the node that answers for them."""

    first: int
    last: int
    node: Node


def even_tags(slot_of: Callable[[bytes], int]) -> list[bytes]:
    """Hash tags, braces included, of which each is in a part of the slots of its own.

    Nodes own long runs of slots, so each of up to half as many nodes gets its share of the tags. The tags are the
    same in every process, for ever: what is kept is found by them.
    """
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < TAGS:
        tag = b"{%d}" % number
        found.setdefault(slot_of(tag) * TAGS // SLOTS, tag)
        number += 1
    return [found[part] for part in range(TAGS)]


def tag_of(key: bytes, tags: Sequence[bytes]) -> int:
    """The place of a row's tag among `tags`. A key is a digest, so rows spread evenly."""
    return key[0] % len(tags)


def owner_of(slot: int, ranges: Iterable[SlotRange]) -> Node | None:
    """The node that answers for a slot, `None` if none does."""
    return next((each.node for each in ranges if each.first <= slot <= each.last), None)


def by_slot(names: Sequence[bytes], slot_of: Callable[[bytes], int]) -> list[list[int]]:
    """The places of names that may stand in one command, in their order."""
    groups: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(slot_of(name), []).append(place)
    return list(groups.values())
