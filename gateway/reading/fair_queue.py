"""A queue that lets models take turns, so that many bodies of one model do not hold up those of another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluice.inference.errors import DeadlineExceeded, QueueFull

MOST_WAITING = 1024
"""How many bodies of one model may wait."""


class FairQueue:
    """Hands out a fixed number of places. Models take turns, and the calls of one model keep their order.

    A call waits for a place until its deadline. For each model, `MOST_WAITING` calls may wait.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def place(self, model: str, left_s: float) -> AsyncIterator[None]:
        """A place, held while the block runs. Raises `DeadlineExceeded`, and `QueueFull` if too many calls wait."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(model, left_s)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, model: str, left_s: float) -> None:
        line = self._lines.setdefault(model, deque())
        if len(line) >= MOST_WAITING:
            raise QueueFull(f"{len(line)} large requests for model {model!r} wait to be read; no more can")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(mine)
        try:
            async with asyncio.timeout(left_s):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # a place was given at the same moment
            else:
                self._leave(model, mine)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"the request waited {left_s:.3f} s to be read, for its time") from None
            raise

    def _leave(self, model: str, mine: asyncio.Future[None]) -> None:
        line = self._lines.get(model)
        if line is not None and mine in line:
            line.remove(mine)
            if not line:
                del self._lines[model]

    def _pass_on(self) -> None:
        while self._lines:
            model, line = self._lines.popitem(last=False)
            next_one = line.popleft()
            if line:
                self._lines[model] = line  # behind the others
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1
