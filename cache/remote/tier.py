"""The tier in Redis that several gateways share. Whatever Redis does, no request waits long for it, and none fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Self

import msgspec

from sluice.cache.remote.deletion import ADMIN_TIMEOUT_S, swept
from sluice.cache.remote.guard import Guard
from sluice.cache.remote.leases import SUFFIX, Leases, next_look_s
from sluice.cache.remote.lookups import LookedUp, Lookups
from sluice.cache.remote.redis_link import (
    A_CLUSTER,
    NOT_REDIS,
    CacheUnavailable,
    Command,
    CommandRefused,
    Link,
    Reply,
    in_plain_words,
    slot_of,
)
from sluice.cache.remote.shard import Shard
from sluice.cache.remote.slots import by_slot
from sluice.cache.remote.writes import Write, Writes
from sluice.cache.report import RedisState, TierCounts

READERS = 2
"""Connections for lookups. While one is on its way, what is asked for gathers for the other."""

MOST_CHORES = 64
"""The most leases that are given back at the same time. Others expire."""


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

    Implements `RemoteTier`. Entering takes at most `connect_timeout_s`, whether Redis is there or not. A
    lookup takes at most twice `timeout_s`; after one failure Redis is left alone and tried in the background, by
    commands of our own. Reads and writes fail apart: a Redis that is full still answers.

    `on_change` is called, for `reads` and `writes`, with the new state and the reason once a failure lasts.

    With `shard` it is one node of a cluster: keys that are elsewhere are misses, and no failure of the node.
    """

    def __init__(
        self,
        options: RedisOptions,
        *,
        on_change: Callable[[str, str, str | None], None] = lambda side, state, reason: None,
        clock: Callable[[], float] = time.monotonic,
        shard: Shard | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._shard = shard
        self._node = None if shard is None else shard.node
        self._prefix = options.prefix.encode()
        self._links = [self._link(options.connect_timeout_s) for _ in range(READERS)]
        self._write_link = self._link(options.connect_timeout_s)
        self._lease_link = self._link(options.connect_timeout_s)
        self._lease_turn = asyncio.Lock()
        self._on_change = on_change
        self._reads = Guard(self._try_reads, partial(self._changed, "reads"), clock)
        self._writes = Guard(self._try_writes, partial(self._changed, "writes"), clock)
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
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._queue.size[1]

    @property
    def leasing(self) -> bool:
        """Whether gateways agree on who computes what."""
        return self._leases is not None

    async def lookup(self, space: str, keys: Sequence[bytes]) -> LookedUp | None:
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
        """Which keys the caller is to compute: all if Redis does not answer."""
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
        async with self._link(ADMIN_TIMEOUT_S) as link:
            await link.connect()
            return await swept(link, prefix, self._commanded)

    def state(self) -> RedisState:
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
        if key is None:
            return b"%b%b:" % (self._prefix, space.encode())
        tag = b"" if self._shard is None else self._shard.tag(key)
        return b"%b%b:%b%b" % (self._prefix, space.encode(), tag, key.hex().encode())

    def _names(self, space: str, keys: Sequence[bytes]) -> list[bytes]:
        return [self._name(space, key) for key in keys]

    def _link(self, connect_timeout_s: float) -> Link:
        return Link(self._options.url, connect_timeout_s, self._node)

    def _commanded(self, names: Sequence[bytes]) -> list[list[int]]:
        """The places of names that may stand in one command."""
        return [list(range(len(names)))] if self._shard is None else by_slot(names, slot_of)

    async def _read(self, link: Link, names: Sequence[bytes]) -> Sequence[bytes | None] | None:
        groups = self._commanded(names)
        found: list[bytes | None] = [None] * len(names)
        commands: list[Command] = [("MGET", *[names[place] for place in group]) for group in groups]
        try:
            replies = await link.call_all(commands, self._options.timeout_s)
            for group, reply in zip(groups, replies, strict=True):
                if self._is_elsewhere(reply):
                    continue
                if isinstance(reply, Exception):
                    raise in_plain_words(reply)
                if not _are_values(reply, len(group)):
                    await link.close()
                    raise CacheUnavailable(NOT_REDIS)
                for place, value in zip(group, reply, strict=True):
                    found[place] = value
        except CacheUnavailable as error:
            self._count("read", error)
            self._reads.failed(error)
            return None
        return found

    async def _write(self, piece: Sequence[Write]) -> Sequence[bool]:
        commands: list[Command] = [("SET", each.name, each.value, "PX", each.ttl_ms) for each in piece]
        try:
            replies = await self._write_link.call_all(commands, self._options.connect_timeout_s)
            here = [reply for reply in replies if not self._is_elsewhere(reply)]
            if here and b"OK" not in here:
                raise CommandRefused("it takes no writes")
        except CacheUnavailable as error:
            self._count("write", error)
            self._writes.failed(error)
            return [False] * len(piece)
        return [reply == b"OK" for reply in replies]

    def _is_elsewhere(self, reply: Reply) -> bool:
        return self._shard is not None and self._shard.is_elsewhere(reply)

    def _count(self, kind: str, error: CacheUnavailable) -> None:
        self._failures[kind] += 1
        if self._shard is not None:
            self._shard.on_trouble(error)

    async def _try_reads(self) -> None:
        for link in self._links:
            await self._tried("read", link, [self._probe()])

    async def _try_writes(self) -> None:
        name = self._prefix if self._shard is None else self._shard.own_name()
        await self._tried("write", self._write_link, [self._probe(), ("SET", name + b"try", b"", "PX", 1)])

    def _probe(self) -> Command:
        """A read that a server answers, and a node of a cluster only if it is used as one: two slots in one MGET."""
        if self._shard is not None:
            return "MGET", self._shard.own_name()
        return "MGET", self._prefix, self._prefix + b"try"

    async def _tried(self, side: str, link: Link, commands: Sequence[Command]) -> None:
        try:
            if not link.connected:
                await link.connect()
            for reply in await link.call_all(commands, self._options.connect_timeout_s):
                if isinstance(reply, Exception):
                    raise in_plain_words(reply) from None
        except CacheUnavailable as error:
            self._count(side, error)
            raise

    def _changed(self, side: str, state: str, reason: str | None) -> None:
        if side == "writes" and reason == A_CLUSTER:
            return  # reads say so
        self._on_change(side, state, reason)

    async def _with_leases(self, commands: Sequence[Command]) -> Sequence[Reply] | None:
        """The replies; `None` if there was none, or not what was asked for."""
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
            self._count("lease", error)
            self._writes.failed(error)
            return None
        for reply in replies:
            self._is_elsewhere(reply)
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
