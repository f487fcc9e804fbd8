"""Deletes all keys of one server with a common prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluice.cache.remote.redis_link import NOT_REDIS, CacheUnavailable, Link, Reply

ADMIN_TIMEOUT_S = 2.0
SCANNED = 1000
"""About how many keys one step scans; Redis serves others in between."""


async def swept(link: Link, prefix: bytes, grouped: Callable[[Sequence[bytes]], list[list[int]]]) -> int:
    """How many keys there were under `prefix`. `grouped` gives the places of names that may stand in one command.

    Raises `CacheUnavailable` where Redis does not answer, with some of them deleted perhaps.
    """
    gone = 0
    cursor: bytes = b"0"
    while True:
        scan = ("SCAN", cursor, "MATCH", _literal(prefix) + b"*", "COUNT", SCANNED)
        cursor, names = _scanned(await link.call(scan, ADMIN_TIMEOUT_S))
        for group in grouped(names) if names else ():
            gone += int(await link.call(("UNLINK", *[names[place] for place in group]), ADMIN_TIMEOUT_S))
        if cursor == b"0":
            return gone


def _scanned(reply: Reply) -> tuple[bytes, list[bytes]]:
    """The next cursor, and the names that were found."""
    match reply:
        case [bytes() as cursor, list() as names]:
            return cursor, names
        case _:
            raise CacheUnavailable(NOT_REDIS)


def _literal(name: bytes) -> bytes:
    """A pattern that means just this name."""
    return b"".join([b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in name])
