"""The tier that several gateways share. Whatever Redis does, nobody here waits long for it, and nothing fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Self

import msgspec

from cache.guard import Guard
from cache.lease import SUFFIX, Leases, next_look_s
from cache.lookups import Looked, Lookups
from cache.redis_store import CacheUnavailable, Command, Link, Refused, Reply
from cache.report import RedisState, TierCounts
from cache.writes import Write, Writes

READERS = 2
"""Connections for lookups. While one is on its way, what is asked for gathers for the other."""

ADMIN_TIMEOUT_S = 2.0
SCANNED = 1000
"""Deleting looks at about so many keys at a time, and Redis serves others in between."""

MOST_CHORES = 64
"""Leases to be given back at the same time. Others end by themselves."""


class RedisOptions(msgspec.Struct, frozen=True):
    """How to use Redis. `url` is what redis-py takes; `lease_s` 0 is no leases. Larger values are not sent."""

    url: str
    prefix: str = "sluice:"
    connect_timeout_s: float = 0.1
    timeout_s: float = 0.02
    max_value_bytes: int = 1 << 20
    max_queue_bytes: int = 16 << 20
    lease_s: float = 0.0

    def __repr__(self) -> str:
        """Without the address, which may have a password in it."""
        return f"RedisOptions(prefix={self.prefix!r})"


class RedisTier:
    """Lookups that travel together, writes in the background, and a breaker for each. An async context manager.

    Implements `cache.remote.RemoteTier`. Entering takes at most `connect_timeout_s`, whether Redis is there or not. A
    lookup takes at most twice `timeout_s`; after one failure Redis is left alone and tried in the background, by
    commands of our own. Reads and writes fail apart: a Redis that is full still answers.

    `on_change` hears, for `reads` and `writes`, the new state and the reason once a failure lasts.
    """

    def __init__(
        self,
        options: RedisOptions,
        *,
        on_change: Callable[[str, str, str | None], None] = lambda side, state, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._clock = clock
        self._prefix = options.prefix.encode()
        self._links = [Link(options.url, options.connect_timeout_s) for _ in range(READERS)]
        self._write_link = Link(options.url, options.connect_timeout_s)
        self._lease_link = Link(options.url, options.connect_timeout_s)
        self._lease_turn = asyncio.Lock()
        self._reads = Guard(self._try_reads, partial(on_change, "reads"), clock)
        self._writes = Guard(self._try_writes, partial(on_change, "writes"), clock)
        self._lookups = Lookups([partial(self._read, link) for link in self._links], clock)
        self._queue = Writes(self._write, lambda: self._writes.closed, options.max_queue_bytes)
        self._leases = Leases(options.lease_s) if options.lease_s else None
        self._failures: Counter[str] = Counter()
        self._chores: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for link in (*self._links, self._write_link, self._lease_link):
                await stack.enter_async_context(link)
            async with asyncio.TaskGroup() as group:
                for guard in (self._reads, self._writes):
                    group.create_task(stack.enter_async_context(guard))
            await stack.enter_async_context(self._lookups)
            await stack.enter_async_context(self._queue)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        for chore in self._chores:
            chore.cancel()
        await self._stack.aclose()

    @property
    def readable(self) -> bool:
        """Whether lookups are answered, as far as is known."""
        return self._reads.closed

    @property
    def longest_lookup_s(self) -> float:
        """How long a lookup takes at most: the wait for a round trip that is under way, and its own."""
        return 2 * self._options.timeout_s

    @property
    def leasing(self) -> bool:
        """Whether gateways agree on who computes what."""
        return self._leases is not None

    async def lookup(self, space: str, keys: Sequence[bytes]) -> Looked | None:
        """The values of these keys; `None` where nobody answered in time. Bears cancellation."""
        if not self.readable:
            return None
        return await self._lookups.ask(self._names(space, keys))

    def store(self, space: str, key: bytes, value: bytes, ttl_s: float, counts: TierCounts) -> bool:
        """Keep a value some time later, or drop it; `counts` hears of either. False if it is dropped at once."""
        if len(value) > self._options.max_value_bytes:
            counts.dropped += 1
            return False
        return self._queue.add(Write(self._name(space, key), value, max(1, round(1e3 * ttl_s)), counts))

    async def claim(self, space: str, keys: Sequence[bytes]) -> Sequence[bool]:
        """Which keys are the caller's to compute: all where nobody answers."""
        assert self._leases is not None
        replies = await self._with_leases(self._leases.claim(self._names(space, keys)))
        return [True] * len(keys) if replies is None else [reply is not None for reply in replies]

    async def awaited(self, space: str, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys that another process has claimed, once they are there or the leases are over."""
        began_s = self._clock()
        names = self._names(space, keys)
        found: dict[bytes, bytes] = {}
        waiting = names
        while waiting and (waited_s := self._clock() - began_s) < self._options.lease_s:
            await asyncio.sleep(min(next_look_s(waited_s), self._options.lease_s - waited_s))
            looked = await self._lookups.ask([*waiting, *[name + SUFFIX for name in waiting]])
            if looked is None:
                break
            values, leases = looked.values[: len(waiting)], looked.values[len(waiting) :]
            found |= {name: value for name, value in zip(waiting, values, strict=True) if value is not None}
            held = zip(waiting, leases, strict=True)
            waiting = [name for name, lease in held if name not in found and lease is not None]
        return [found.get(name) for name in names]

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        """Give claims back, some time later."""
        if self._leases is not None and len(self._chores) < MOST_CHORES:
            self._do(self._released(self._leases.release(self._names(space, keys))))

    async def forget(self, space: str | None) -> int:
        """Delete all keys of one space, or of every one under the prefix; how many there were.

        Raises `CacheUnavailable` where Redis does not answer, with some of them deleted perhaps.
        """
        prefix = self._name(space, None) if space is not None else self._prefix
        await self._queue.forget(prefix)
        gone = 0
        cursor: bytes = b"0"
        async with Link(self._options.url, ADMIN_TIMEOUT_S) as link:
            await link.connect()
            while True:
                scan = ("SCAN", cursor, "MATCH", _literal(prefix) + b"*", "COUNT", SCANNED)
                cursor, names = _scanned(await link.call(scan, ADMIN_TIMEOUT_S))
                if names:
                    gone += int(await link.call(("UNLINK", *names), ADMIN_TIMEOUT_S))
                if cursor == b"0":
                    return gone

    def state(self) -> RedisState:
        """What stands now."""
        queued, queued_bytes = self._queue.size
        return RedisState(
            reads=self._reads.state,
            writes=self._writes.state,
            last_error=self._reads.last_error or self._writes.last_error,
            failures=dict(self._failures),
            queued_writes=queued,
            queued_bytes=queued_bytes,
        )

    def _name(self, space: str, key: bytes | None) -> bytes:
        return b"%b%b:%b" % (self._prefix, space.encode(), b"" if key is None else key.hex().encode())

    def _names(self, space: str, keys: Sequence[bytes]) -> list[bytes]:
        return [self._name(space, key) for key in keys]

    async def _read(self, link: Link, names: Sequence[bytes]) -> Sequence[bytes | None] | None:
        try:
            values = await link.call(("MGET", *names), self._options.timeout_s)
            if not _are_values(values, len(names)):
                await link.close()
                raise CacheUnavailable("what answers is not Redis")
        except CacheUnavailable as error:
            self._failures["read"] += 1
            self._reads.failed(error)
            return None
        found: Sequence[bytes | None] = values
        return found

    async def _write(self, piece: Sequence[Write]) -> Sequence[bool]:
        commands: list[Command] = [("SET", each.name, each.value, "PX", each.ttl_ms) for each in piece]
        try:
            replies = await self._write_link.call_all(commands, self._options.connect_timeout_s)
            taken = [reply == b"OK" for reply in replies]
            if not any(taken):
                raise Refused("it takes no writes")
        except CacheUnavailable as error:
            self._failures["write"] += 1
            self._writes.failed(error)
            return [False] * len(piece)
        return taken

    async def _try_reads(self) -> None:
        for link in self._links:
            await self._tried("read", link, ("MGET", self._prefix))

    async def _try_writes(self) -> None:
        await self._tried("write", self._write_link, ("SET", self._prefix + b"try", b"", "PX", 1))

    async def _tried(self, side: str, link: Link, command: Command) -> None:
        try:
            if not link.connected:
                await link.connect()
            await link.call(command, self._options.connect_timeout_s)
        except CacheUnavailable:
            self._failures[side] += 1
            raise

    async def _with_leases(self, commands: Sequence[Command]) -> Sequence[Reply] | None:
        """The replies, or `None` where nobody answered as one should."""
        if not self._writes.closed:
            return None
        try:
            async with asyncio.timeout(self._options.timeout_s), self._lease_turn:
                if not self._lease_link.connected:
                    await self._lease_link.connect()
                replies = await self._lease_link.call_all(commands, self._options.timeout_s)
        except TimeoutError:
            return None
        except CacheUnavailable as error:
            self._failures["lease"] += 1
            self._writes.failed(error)
            return None
        return None if any([isinstance(reply, Exception) for reply in replies]) else replies

    async def _released(self, commands: Sequence[Command]) -> None:
        await self._with_leases(commands)

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _are_values(reply: Reply, count: int) -> bool:
    return (
        isinstance(reply, list) and len(reply) == count and all([each is None or type(each) is bytes for each in reply])
    )


def _scanned(reply: Reply) -> tuple[bytes, list[bytes]]:
    """The next cursor, and the names that were found."""
    match reply:
        case [bytes() as cursor, list() as names]:
            return cursor, names
        case _:
            raise CacheUnavailable("what answers is not Redis")


def _literal(name: bytes) -> bytes:
    """A pattern that means just this name."""
    return b"".join([b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in name])
