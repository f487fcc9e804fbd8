"""Long work in short steps: between two steps of one request, all others have a turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from sluice.inference.errors import DeadlineExceeded

STEP_ROWS = 256
STEP_BYTES = 1 << 20
"""The work of one step, about a millisecond, where something is made or copied for each row."""

LIGHT_ROWS = 16 * STEP_ROWS
"""The same, where rows are only read."""


class Turns:
    """Lets the steps of large requests take turns, with each other and with all other calls.

    In each turn of the event loop one of all the requests that wait here goes on, first come, first served: so a call
    beside them waits for one step at a time, however many they are. `clock` is the clock of deadlines.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._calling = False

    @asynccontextmanager
    async def before(self, deadline_s: float) -> AsyncIterator[None]:
        """A block that ends at the deadline, with `DeadlineExceeded`, whatever it waits for."""
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock())):
                yield
        except TimeoutError:
            raise DeadlineExceeded("the deadline was over before the request had come to the queue") from None

    async def next(self, deadline_s: float) -> None:
        """Wait for one's turn. Raises `DeadlineExceeded` where the time is over by then. Bears cancellation."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if not self._calling:
            self._calling = True
            loop.call_soon(self._call, loop)
        await turn
        if deadline_s <= self._clock():
            raise DeadlineExceeded("the deadline was over while the rows of the request were gone through")

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        self._calling = bool(self._waiting)
        if self._calling:
            loop.call_soon(self._call, loop)


def steps(rows: int, size_bytes: int, arrays: int = 1) -> Iterator[tuple[int, int]]:
    """From which row to which each step goes, where all rows of so many arrays have `size_bytes` together."""
    step = max(1, min(STEP_ROWS // max(1, arrays), STEP_BYTES * rows // max(1, size_bytes)))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def light_steps(rows: int) -> Iterator[tuple[int, int]]:
    """The same, for work that only looks at each row."""
    for start in range(0, rows, LIGHT_ROWS):
        yield start, min(rows, start + LIGHT_ROWS)
