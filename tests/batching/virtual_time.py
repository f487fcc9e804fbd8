"""An event loop whose clock stands still while there is work, and jumps to the next timer when there is none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Never blocks: what would have been a wait moves the clock instead."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if timeout is None and not events:
            raise RuntimeError("the test waits for something that nothing is going to do")
        if timeout is not None and timeout > 0 and not events:
            self.now_s += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Virtual time: no test that runs on this loop can wait, depend on speed, or hang."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.complaints: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._jumping.now_s

    def armed_timers(self) -> int:
        """Timers that are going to fire."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


async def quiet() -> None:
    """Return when everything that could happen without time passing has happened (a microsecond later)."""
    await asyncio.sleep(1e-6)


async def pass_time(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


def virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop
