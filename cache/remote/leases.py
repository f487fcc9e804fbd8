"""Short leases in Redis: they settle which of several gateways computes a row that all of them want.

A lease is a key of its own that ends by itself, so that a gateway which dies keeps nobody for longer than that. No
gateway waits while it holds a lease for something that it has not computed yet, and waiting ends with the lease at the
latest: there is no way to a deadlock.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sluice.cache.remote.redis_link import Command

SUFFIX = b":lease"
FIRST_LOOK_S = 0.002
LONGEST_LOOK_S = 0.05
"""How long to wait before looking again whether a value is there, at first and at the most."""

# Only its holder may end a lease: it may have expired, and belong to another gateway by now.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Leases:
    """The commands for leases of `lease_s`, held in the name of one gateway. Sends nothing itself."""

    def __init__(self, lease_s: float) -> None:
        self._lease_ms = max(1, round(1e3 * lease_s))
        self._holder = secrets.token_hex(16).encode()

    def claim(self, names: Sequence[bytes]) -> list[Command]:
        """The command that claims each name; the reply is `OK` if it was free."""
        return [("SET", name + SUFFIX, self._holder, "NX", "PX", self._lease_ms) for name in names]

    def release(self, names: Sequence[bytes]) -> list[Command]:
        """The command that gives each name back, if it is still held."""
        return [("EVAL", _RELEASE, 1, name + SUFFIX, self._holder) for name in names]


def next_look_s(waited_s: float) -> float:
    """How long to wait for the next look, after so long: a quarter longer in all, so that looks are few."""
    return min(max(FIRST_LOOK_S, waited_s / 4), LONGEST_LOOK_S)
