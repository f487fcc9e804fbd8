"""One reader process, as the gateway sees it."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from sluice.gateway.reading.messages import KNOWN_CALLEES, Decode, FindModel, Forget, Meet, ReaderAnswer
from sluice.gateway.reading.reader_bounds import ReaderBounds
from sluice.gateway.reading.spawn import spawn
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.inference.transport.arena import SharedMemory
from sluice.inference.transport.channel import Channel, NotSent, PeerGone, WireError
from sluice.inference.workers.spawn import end, kill

LOOK_S = 0.02
"""How often the memory and the time of a reader at work are checked."""

STALLED_S = 10.0
"""A reader at work that used no processor time for so long was stopped, or hangs in the kernel."""

_PAGE_BYTES = resource.getpagesize()


class ReaderLost(Exception):
    """The reader has ended, and with it the order that it had."""

    def __init__(self, reader: ReaderProcess, end: ReaderEnd) -> None:
        super().__init__(f"reader process {reader.pid}: {end}")
        self.reader = reader
        self.end = end


class ReaderProcess:
    """A reader. Owns the process and the sockets until `close`.

    It has one order at a time: `ask` sends one and gives its answer. The reader is killed when it exceeds its bounds.
    Then, and when it ends by itself, the awaited answer raises `ReaderLost`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: Channel[ReaderAnswer],
        on_end: Callable[[ReaderProcess], None],
    ) -> None:
        self.pid = process.pid
        self.end: ReaderEnd | None = None
        self.since_s = time.monotonic()
        """When it last finished an order."""
        self._on_end = on_end
        self._ran_ns = 0
        self._ran_at_s = 0.0
        self._process = process
        self._channel = channel
        self._met: OrderedDict[int, None] = OrderedDict()
        self._answer: asyncio.Future[tuple[ReaderAnswer, int | None]] | None = None
        self._bounds: ReaderBounds | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(channel.fileno(), self._on_readable)

    @classmethod
    async def start(cls, on_end: Callable[[ReaderProcess], None]) -> Self:
        """Start a reader. `on_end` is called once, when it has ended. Raises `OSError`."""
        return cls(*await spawn(), on_end)

    @property
    def alive(self) -> bool:
        """Whether it can be given orders."""
        return self.end is None

    @property
    def own_bytes(self) -> int:
        """The memory that it shares with no other process; 0 once it has ended."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        return (int(pages[1]) - int(pages[2])) * _PAGE_BYTES

    def meet(self, number: int, describe: Callable[[], bytes]) -> None:
        """Introduce a model version, unless it knows that. Raises `OSError`, `PeerGone` and `WireError`."""
        if number in self._met:
            self._met.move_to_end(number)
            return
        description = describe()
        with SharedMemory.create(len(description)) as memory:
            memory.buffer[:] = description
            self._channel.send(Meet(number, len(description)), memory.descriptor)
        self._met[number] = None
        if len(self._met) > KNOWN_CALLEES:
            self._met.popitem(last=False)

    def forget(self, number: int) -> None:
        """Tell it to forget a model version."""
        if number in self._met and self.alive:
            del self._met[number]
            with suppress(PeerGone, WireError):
                self._channel.send(Forget(number))

    def ask(
        self, order: FindModel | Decode, descriptor: int, bounds: ReaderBounds
    ) -> asyncio.Future[tuple[ReaderAnswer, int | None]]:
        """Send an order with the body's file. The future gives the answer, and the descriptor that came with it.

        Raises `NotSent` for an order that cannot be sent now, and `ReaderLost`.
        """
        try:
            self._channel.send(order, descriptor)
        except NotSent:
            raise
        except (PeerGone, WireError) as error:
            self.kill(ReaderEnd.DIED)
            raise ReaderLost(self, ReaderEnd.DIED) from error
        self._answer = answer = self._loop.create_future()
        self._bounds = bounds
        self._ran_ns, self._ran_at_s = -1, time.monotonic()
        self._timer = self._loop.call_later(LOOK_S, self._look)
        return answer

    def hurry(self, limit_s: float) -> None:
        """Bring the limit forward to `limit_s`, for nobody waits for the answer any more."""
        if self._bounds is not None:
            limit_s = min(limit_s, self._bounds.limit_s)
            self._bounds = ReaderBounds(self._bounds.memory_bytes, limit_s, limit_s)

    def kill(self, why: ReaderEnd) -> None:
        """Kill the process. An answer that is awaited raises `ReaderLost`."""
        if self.end is None:
            self.end = why
            kill(self._process)
            self._let_go()
            self._on_end(self)

    async def close(self) -> int:
        """Kill the process and wait for its end. Returns its exit code, as `asyncio.subprocess.Process` gives it."""
        self.kill(ReaderEnd.CLOSED)
        return await end(self._process)

    def _on_readable(self) -> None:
        try:
            answer, descriptor = self._channel.receive()
        except BlockingIOError:
            return
        except (PeerGone, WireError):
            self.kill(ReaderEnd.DIED)
            return
        self._done()
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_result((answer, descriptor))
        elif descriptor is not None:
            os.close(descriptor)

    def _look(self) -> None:
        bounds, now_s = self._bounds, time.monotonic()
        if bounds is None:
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)
        why = self._excess(bounds, now_s)
        if why is not None:
            self._on_readable()  # the answer may be there, unread, where the event loop was held up
            if self._bounds is not None:
                self.kill(why)

    def _excess(self, bounds: ReaderBounds, now_s: float) -> ReaderEnd | None:
        """The bound that it has exceeded, if any."""
        if now_s >= bounds.deadline_s:
            return ReaderEnd.DEADLINE
        if now_s >= bounds.limit_s:
            return ReaderEnd.TIME
        if self.own_bytes > bounds.memory_bytes:
            return ReaderEnd.MEMORY
        ran_ns = self._processor_ns()
        if ran_ns != self._ran_ns:
            self._ran_ns, self._ran_at_s = ran_ns, now_s
        return ReaderEnd.STALLED if now_s - self._ran_at_s >= STALLED_S else None

    def _processor_ns(self) -> int:
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return -1

    def _done(self) -> None:
        self._bounds = None
        self.since_s = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        self._done()
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            assert self.end is not None
            waiting.set_exception(ReaderLost(self, self.end))
