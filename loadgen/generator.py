"""Carries an open-loop run out: opens the connections, sends what is due, and brings the ledger back.

All connections are opened before the run begins. It takes a process of its own, or one that does nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from types import TracebackType

import msgspec
import numpy as np

from sluice.inference.errors import StartError
from sluice.loadgen.arrivals import Times
from sluice.loadgen.connection import HttpLine
from sluice.loadgen.ledger import EndedRequests, Ledger
from sluice.loadgen.pacing import OpenLoop, PacedConnection
from sluice.loadgen.target import Target
from sluice.loadgen.timer import PreciseTimer

SETTLE_S = 0.1
"""The time from the last connection's opening to the first request, in seconds."""

SWEEP_S = 0.1
WATCH_S = 0.5
OPENED_AT_ONCE = 64
CONNECT_TIMEOUT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0


class SendingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run: `due_s` from its beginning, over so many connections. `requests` are sent in turn, as they are."""

    target: Target
    requests: Sequence[bytes]
    due_s: Times
    connections: int
    timeout_s: float


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come, and what has ended since the last time. `waiting` requests have no connection yet."""

    elapsed_s: float
    under_way: int
    waiting: int
    recent: EndedRequests


class Carried(msgspec.Struct, frozen=True):
    """A run that is over. Seconds of `requests` are from its beginning.

    `stopped_s` is when it was told to stop, if it was. `cpu_s` is the processor time that this process had taken at
    each of `sampled_s`. `reopened` counts the connections that had ended and were opened again.
    """

    requests: EndedRequests
    stopped_s: float | None
    sampled_s: Times
    cpu_s: Times
    reopened: int


class Generator:
    """One run, begun by `run`, which anything in the same event loop may `stop`."""

    def __init__(self, plan: SendingPlan) -> None:
        self._plan = plan
        self._ledger = Ledger()
        self._over = asyncio.Event()
        self._stopped_s: float | None = None
        self._samples: list[tuple[float, float]] = []
        self._pacing: OpenLoop | None = None

    async def run(self, watch: Callable[[Progress], None] | None = None) -> Carried:
        """Carry the plan out. Raises `StartError` if it cannot connect.

        `watch` is called every half second, in a thread, so that a terminal that does not move holds nothing up.
        """
        lines = await opened(self._plan.target, self._plan.requests, self._plan.connections)
        await asyncio.sleep(SETTLE_S)
        try:
            with undisturbed(), PreciseTimer() as timer:
                return await self._paced(lines, timer, watch)
        finally:
            for line in lines:
                line.close()

    def stop(self) -> None:
        """Send nothing more, and end when the answers that are still to come have come."""
        if self._stopped_s is None:
            self._stopped_s = time.monotonic()
            if self._pacing is not None:
                self._pacing.stop(self._stopped_s)

    async def _paced(
        self, lines: Sequence[HttpLine], timer: PreciseTimer, watch: Callable[[Progress], None] | None
    ) -> Carried:
        loop = asyncio.get_running_loop()
        begun_s = time.monotonic()
        self._sample()
        async with _Background() as background:
            pacing = self._pacing = OpenLoop(
                begun_s + self._plan.due_s,
                lines,
                self._ledger,
                timeout_s=self._plan.timeout_s,
                set_timer=timer.set,
                reopen=lambda line: background.start(self._reopen(line, pacing)),
                on_end=self._over.set,
            )
            for line in lines:
                line.pacing = pacing
            background.start(self._sweep(pacing))
            if watch is not None:
                background.start(self._watch(pacing, begun_s, watch))
            loop.add_reader(timer.fileno(), lambda: pacing.pump(time.monotonic()))
            try:
                if self._stopped_s is not None:  # before anything was sent
                    pacing.stop(self._stopped_s)
                pacing.pump(time.monotonic())
                await self._over.wait()
            finally:
                loop.remove_reader(timer.fileno())
        self._sample()
        sampled_s, cpu_s = np.array(self._samples).T
        return Carried(
            requests=self._ledger.requests(begun_s),
            stopped_s=None if self._stopped_s is None else self._stopped_s - begun_s,
            sampled_s=sampled_s - begun_s,
            cpu_s=cpu_s - cpu_s[0],
            reopened=pacing.reopened,
        )

    async def _reopen(self, line: PacedConnection, pacing: OpenLoop) -> None:
        """Connect again, as often as it takes; the server may be away for a while, or hang up at once."""
        assert isinstance(line, HttpLine)
        wait_s = FIRST_RETRY_S
        if not line.served:
            await asyncio.sleep(wait_s)
        while True:
            try:
                await _connect(self._plan.target, line)
            except (OSError, TimeoutError):
                await asyncio.sleep(wait_s)
                wait_s = min(LAST_RETRY_S, 2 * wait_s)
            else:
                pacing.opened(line, time.monotonic())
                return

    def _sample(self) -> None:
        self._samples.append((time.monotonic(), time.process_time()))

    async def _sweep(self, pacing: OpenLoop) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            pacing.sweep(time.monotonic())
            self._sample()

    async def _watch(self, pacing: OpenLoop, begun_s: float, watch: Callable[[Progress], None]) -> None:
        seen = 0
        while True:
            await asyncio.sleep(WATCH_S)
            recent = self._ledger.requests(begun_s, seen)
            seen += len(recent)
            now_s = time.monotonic()
            progress = Progress(now_s - begun_s, pacing.under_way, pacing.waiting(now_s), recent)
            await asyncio.to_thread(watch, progress)


class _Background:
    """Tasks that live as long as a run. One that fails ends the run with its error; none is started after its end."""

    async def __aenter__(self) -> _Background:
        self._group = await asyncio.TaskGroup().__aenter__()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        return self

    def start(self, work: Coroutine[None, None, None]) -> None:
        if not self._open:
            work.close()
            return
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)


async def opened(where: Target, requests: Sequence[bytes], count: int) -> Sequence[HttpLine]:
    """Connections that are open, and take turns in sending these requests. Raises `StartError` if one is not."""
    turns = cycle(requests)
    lines = [HttpLine(turns) for _ in range(count)]
    try:
        for first in range(0, count, OPENED_AT_ONCE):
            await asyncio.gather(*[_connect(where, line) for line in lines[first : first + OPENED_AT_ONCE]])
    except (OSError, TimeoutError) as error:
        raise StartError(f"cannot connect to {where.address}: {reason(error)}") from error
    return lines


def reason(error: Exception) -> str:
    """Why a connection did not come about, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see --ca-file and --insecure"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def _connect(where: Target, line: HttpLine) -> None:
    loop = asyncio.get_running_loop()
    name = None if where.tls is None else where.host
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        await loop.create_connection(lambda: line, where.host, where.port, ssl=where.tls, server_hostname=name)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the garbage collector, whose pauses would be taken for the server's."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
