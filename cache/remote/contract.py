"""What the cache needs of a tier that other processes share. `tier.RedisTier` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sluice.cache.report import TierCounts


class LookupResult(Protocol):
    """What a lookup of keys found, in their order, and its cost: their share in the time of the round trip."""

    @property
    def values(self) -> Sequence[bytes | None]: ...
    @property
    def cost_s(self) -> float: ...


class RemoteTier(Protocol):
    """A tier that other processes share. None of its methods fails, whatever the other side does.

    `readable` is false while it is left alone. A lookup takes at most `longest_lookup_s`. `leasing` is true where
    processes agree on who computes what.
    """

    @property
    def readable(self) -> bool: ...
    @property
    def longest_lookup_s(self) -> float: ...
    @property
    def leasing(self) -> bool: ...

    async def lookup(self, space: str, keys: Sequence[bytes]) -> LookupResult | None:
        """The values of these keys; `None` where nobody answered in time. Bears cancellation."""
        ...

    def store(self, space: str, key: bytes, value: bytes, ttl_s: float, counts: TierCounts) -> bool:
        """Keep a value some time later, or drop it; `counts` hears of either. False if it is dropped at once."""
        ...

    async def claim(self, space: str, keys: Sequence[bytes]) -> Sequence[bool]:
        """Which keys the caller is to compute: all if the tier does not answer."""
        ...

    async def awaited(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys that another process has claimed, after a short, bounded time."""
        ...

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        """Give claims back, some time later."""
        ...
