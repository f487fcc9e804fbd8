"""One node of a Redis Cluster, as its tier needs to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from sluice.cache.remote.redis_link import CacheUnavailable, KeyElsewhere, Reply, in_plain_words
from sluice.cache.remote.slots import Node, tag_of


class Shard(msgspec.Struct, frozen=True):
    """One node of a cluster. `own_name` gives a name in one of its slots, as they are now.

    `on_trouble` is called when the node fails or says that a key is elsewhere. `tags` are the hash tags of its names.
    """

    node: Node
    tags: Sequence[bytes]
    own_name: Callable[[], bytes]
    on_trouble: Callable[[CacheUnavailable], None]

    def tag(self, key: bytes) -> bytes:
        """The hash tag in the name of a row, with its braces."""
        return self.tags[tag_of(key, self.tags)]

    def is_elsewhere(self, reply: Reply) -> bool:
        """Whether the reply says that another node has the key; `on_trouble` is called then."""
        if not isinstance(reply, Exception) or not isinstance(error := in_plain_words(reply), KeyElsewhere):
            return False
        self.on_trouble(error)
        return True
