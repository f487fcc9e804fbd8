"""One timer that rings at the earliest of the times that it was set to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

TICK_S = 1e-6
"""The shortest delay: a smaller one can be lost when it is added to the time, and the alarm would ring for ever."""


class Alarm:
    """Calls `ring` once, at the earliest time that was asked for since the last ring. Owns its timer until `cancel`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self.at_s = math.inf
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at_s: float, now_s: float) -> None:
        """Ring at `at_s` at the latest. The times are the caller's clock's, and may be past."""
        if at_s >= self.at_s:
            return
        self.cancel()
        self.at_s = at_s
        self._timer = self._loop.call_later(max(TICK_S, at_s - now_s), self._due)

    def cancel(self) -> None:
        """Ring no more, until it is set again."""
        self.at_s = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self.at_s, self._timer = math.inf, None
        self._ring()
