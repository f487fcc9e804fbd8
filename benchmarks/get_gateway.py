"""The reference for Redis: Sluice, but with one awaited GET of redis-py for each key, as most caches do it."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from sluice.cache import cache
from sluice.cache.remote.lookups import LookedUp
from sluice.cache.remote.tier import RedisOptions, RedisTier
from sluice.gateway.cli import main


class OneGetEach(RedisTier):
    """Looks up by a client that is shared by all requests, and has as many connections as it wants."""

    def __init__(self, options: RedisOptions, **more: object) -> None:
        super().__init__(options, **more)  # type: ignore[arg-type]
        self._client = redis.asyncio.Redis.from_url(options.url)

    async def lookup(self, space: str, keys: Sequence[bytes]) -> LookedUp | None:
        found: list[bytes | None] = [await self._client.get(self._name(space, key)) for key in keys]  # type: ignore[misc]
        return LookedUp(found, 0.0)


if __name__ == "__main__":
    cache.__dict__["RedisTier"] = OneGetEach
    main()
