"""What the tier of one node of a Redis Cluster has to know of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from sluice.cache.remote.redis_link import CacheUnavailable, KeyElsewhere, Reply, in_plain_words
from sluice.cache.remote.slots import Node, tag_of


class Shard(msgspec.Struct, frozen=True):
    """One node of a cluster. `own_name` gives a name in one of its slots, as they are now.

    `on_trouble` hears whenever the node fails or says that a key is elsewhere. `tags` are what names may have in them.
    """

    node: Node
    tags: Sequence[bytes]
    own_name: Callable[[], bytes]
    on_trouble: Callable[[CacheUnavailable], None]

    def tag(self, key: bytes) -> bytes:
        """What the name of a row has in it, braces included."""
        return self.tags[tag_of(key, self.tags)]

    def is_elsewhere(self, reply: Reply) -> bool:
        """Whether another node answers for the key that this is the reply to, which `on_trouble` hears of."""
        if not isinstance(reply, Exception) or not isinstance(error := in_plain_words(reply), KeyElsewhere):
            return False
        self.on_trouble(error)
        return True
