"""An event loop in virtual time: its clock jumps to the next timer, so a minute of traffic takes a second."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

SHORTEST_DELAY_S = 1e-6
"""A real clock moves on while one looks at it. Without this, a delay that rounding swallows would be armed for ever."""


def virtual_loop() -> VirtualLoop:
    """A loop whose clock is at 0."""
    return VirtualLoop()  # type: ignore[abstract] # it has no sockets, signals, threads and processes


class VirtualLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that futures, tasks and timers need, without sockets, threads or a real clock.

    Callbacks run in the order in which they became due; those that are due together run in the order in which they
    were armed. Time passes only when nothing is left to run. `complaints` has what would have gone to the log.
    """

    def __init__(self) -> None:
        self.complaints: list[dict[str, Any]] = []
        self.turned_s = 0.0
        """When the turn began that it is in: the last time it looked for timers and what else has come."""
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._armed = 0

    def time(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        """What runs now takes so long of the processor's time: whatever becomes due meanwhile is late."""
        self._now_s += seconds

    def call_soon(  # type: ignore[override] # nobody checks the arguments of callbacks here
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override] # nobody checks the arguments of callbacks here
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._armed += 1
        heappush(self._timers, (when, self._armed, timer))
        return timer

    def call_later(  # type: ignore[override] # nobody checks the arguments of callbacks here
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + max(delay, SHORTEST_DELAY_S), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override] # the eager tasks of later versions are not needed
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """Run a coroutine to its end. Raises `RuntimeError` if it waits for what nothing is going to do."""
        task = self.create_task(future)
        outside = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while not task.done():
                self._turn()
        finally:
            events._set_running_loop(outside)
        return task.result()

    def _turn(self) -> None:
        """Run what is ready; if nothing is, let time pass until the next timer."""
        ready = self._ready
        if not ready:
            self._jump()
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not timers:
            raise RuntimeError("the simulation waits for something that nothing is going to do")
        self._now_s = self.turned_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            self._ready.append(heappop(timers)[2])

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is thrown away when its time comes."""
