"""Answers on their way to Redis: written in the background, in bounded pieces, or dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

import msgspec

from sluice.cache.report import TierCounts

PIECE_BYTES = 256 * 1024
PIECE_WRITES = 256
"""The most bytes of writes that go out together."""

WRITE_BYTES = 200
"""The bytes that a waiting write takes beside its value."""

FLUSH_S = 0.5
"""How long leaving waits for writes that are still to be made, in seconds."""


class Write(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One value to be stored under a name, for so many milliseconds."""

    name: bytes
    value: bytes
    ttl_ms: int
    counts: TierCounts

    @property
    def size_bytes(self) -> int:
        """What it takes while it waits."""
        return WRITE_BYTES + len(self.value)


class Writes:
    """A queue of at most `max_bytes`, and one task that empties it. An async context manager.

    `writer` stores a piece and says which writes of it were taken. What finds no room is dropped, and so is everything
    while `writable` says no: a value that is not stored is computed again, which is no harm.
    """

    def __init__(
        self,
        writer: Callable[[Sequence[Write]], Awaitable[Sequence[bool]]],
        writable: Callable[[], bool],
        max_bytes: int,
    ) -> None:
        self._writer = writer
        self._writable = writable
        self._max_bytes = max_bytes
        self._queue: deque[Write] = deque()
        self._size_bytes = 0
        self._writing = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._empty.wait()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._drop_all()

    @property
    def size(self) -> tuple[int, int]:
        """Writes that wait, and their bytes."""
        return len(self._queue), self._size_bytes

    def add(self, write: Write) -> bool:
        """Have a value stored some time, or dropped; either is counted. False if it is dropped at once."""
        if not self._writable() or self._size_bytes + write.size_bytes > self._max_bytes:
            write.counts.dropped += 1
            return False
        self._queue.append(write)
        self._size_bytes += write.size_bytes
        self._empty.clear()
        self._arrived.set()
        return True

    async def forget(self, prefix: bytes) -> None:
        """Write nothing whose name begins so: when this returns, what was before it is written or dropped."""
        kept: deque[Write] = deque()
        for write in self._queue:
            if write.name.startswith(prefix):
                self._size_bytes -= write.size_bytes
                write.counts.dropped += 1
            else:
                kept.append(write)
        self._queue = kept
        async with self._writing:
            pass

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                if not self._writable():
                    self._drop_all()
                    break
                piece = self._next()
                try:
                    async with self._writing:
                        taken = await self._writer(piece)
                except BaseException:
                    _count(piece, [False] * len(piece))
                    raise
                _count(piece, taken)
            self._empty.set()

    def _next(self) -> list[Write]:
        piece: list[Write] = []
        size_bytes = 0
        while self._queue and len(piece) < PIECE_WRITES and size_bytes < PIECE_BYTES:
            write = self._queue.popleft()
            size_bytes += write.size_bytes
            piece.append(write)
        self._size_bytes -= size_bytes
        return piece

    def _drop_all(self) -> None:
        for write in self._queue:
            write.counts.dropped += 1
        self._queue.clear()
        self._size_bytes = 0


def _count(piece: Sequence[Write], taken: Sequence[bool]) -> None:
    for write, stored in zip(piece, taken, strict=True):
        if stored:
            write.counts.stores += 1
        else:
            write.counts.dropped += 1
