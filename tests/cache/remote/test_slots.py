"""Hash tags that are even and for ever, and what of them may stand in one command."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from sluice.cache.remote.redis_link import slot_of
from sluice.cache.remote.slots import SLOTS, TAGS, SlotRange, by_slot, even_tags, owner_of, tag_of

NAMES = [b"sluice:0123456789abcdef:%b%032x" % (tag, number) for number, tag in enumerate(even_tags(slot_of))]


def ranges(nodes: int) -> list[SlotRange]:
    """Equal runs of slots, as a cluster is made."""
    edges = [number * SLOTS // nodes for number in range(nodes + 1)]
    return [SlotRange(edges[number], edges[number + 1] - 1, (f"node-{number}", 6379)) for number in range(nodes)]


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 6, 7, 12, 30, 64])
def test_every_node_gets_its_share_of_the_tags(nodes: int) -> None:
    owned = Counter([owner_of(slot_of(name), ranges(nodes)) for name in NAMES])
    assert len(owned) == nodes
    assert max(owned.values()) - min(owned.values()) <= 2


def test_rows_spread_evenly_over_the_tags() -> None:
    draw = Random(1)
    used = Counter([tag_of(draw.randbytes(16), NAMES) for _ in range(64_000)])
    assert len(used) == TAGS
    assert max(used.values()) < 1.2 * min(used.values())


def test_tags_stay_as_they_are() -> None:
    """A change would have every gateway look for the others' rows in the wrong place."""
    assert even_tags(slot_of)[:6] == [b"{10}", b"{18}", b"{113}", b"{342}", b"{29}", b"{21}"]


def test_slots_are_those_of_the_specification() -> None:
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"foo{}{bar}") == slot_of(b"foo{}{bar}") != slot_of(b"bar")
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")
    assert slot_of(b"sluice:x:{7}abc:lease") == slot_of(b"7")


def test_names_of_a_slot_stand_together_in_their_order() -> None:
    names = [b"a{1}", b"b{2}", b"c{1}", b"d{3}", b"e{2}"]
    assert by_slot(names, slot_of) == [[0, 2], [1, 4], [3]]
    assert by_slot([], slot_of) == []


def test_a_slot_that_nobody_has() -> None:
    assert owner_of(5000, ranges(4)) == ("node-1", 6379)
    assert owner_of(5000, ranges(4)[:1]) is None
