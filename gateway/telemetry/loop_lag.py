"""Measures how late the event loop is: every request waits that long in addition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PERIOD_S = 0.05


class LoopLag:
    """Calls `observe` 20 times a second with how many seconds late the event loop ran a timer.

    An async context manager that owns the timer. A loop that is blocked is reported once, when it goes on.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    async def __aenter__(self) -> LoopLag:
        self._loop = asyncio.get_running_loop()
        self._set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()

    def _set(self) -> None:
        self._due_s = self._loop.time() + PERIOD_S
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self._observe(max(0.0, self._loop.time() - self._due_s))
        self._set()
