"""What became of each request. Times are arguments."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from benchmarks.simulation.arrivals import Request


class Fate(IntEnum):
    """How a request ended."""

    OPEN = 0
    ANSWERED = 1
    REFUSED = 2
    """At once, when it came."""
    DROPPED = 3
    """After it had been accepted."""


class Ledger:
    """The fate of every request, and when it ended. Raises `RuntimeError` if one ends twice."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.open = len(requests)
        self._fates = bytearray(len(requests))
        self._ended_s = [math.nan] * len(requests)
        self._over: asyncio.Future[None] | None = None

    def answered(self, requests: Iterable[Request], now_s: float) -> None:
        """A batch of requests was answered."""
        for request in requests:
            self._end(request, Fate.ANSWERED, now_s)

    def refused(self, request: Request) -> None:
        """A request was not accepted."""
        self._end(request, Fate.REFUSED, request.arrived_s)

    def dropped(self, request: Request, now_s: float) -> None:
        """A request was accepted, and given up before it was answered."""
        self._end(request, Fate.DROPPED, now_s)

    def _end(self, request: Request, fate: Fate, now_s: float) -> None:
        if self._fates[request.index]:
            raise RuntimeError(f"request {request.index} ended twice: {Fate(self._fates[request.index])!r}, {fate!r}")
        self._fates[request.index] = fate
        self._ended_s[request.index] = now_s
        self.open -= 1
        if not self.open and self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def all_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until every request has ended."""
        if self.open:
            self._over = loop.create_future()
            await self._over

    def fates(self) -> npt.NDArray[np.uint8]:
        """The fate of every request, in order of arrival."""
        return np.frombuffer(bytes(self._fates), dtype=np.uint8)

    def ended_s(self) -> npt.NDArray[np.float64]:
        """When each request ended; not a number for those that have not."""
        return np.array(self._ended_s)
