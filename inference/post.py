"""One worker's post: a worker process that is replaced whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from inference.errors import ModelLoadError
from inference.process import Limits, WorkerProcess
from inference.spawn import how_it_ended
from inference.wire import Load

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0

_log = logging.getLogger(__name__)


def restart_delay_s(failures: int) -> float:
    """How long to wait before the next start, after so many workers in a row that ended without serving anything.

    The first is replaced at once; then the delay doubles from `FIRST_DELAY_S` to `LONGEST_DELAY_S`.
    """
    if failures <= 1:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 2, 30), LONGEST_DELAY_S)


class Events(msgspec.Struct, frozen=True):
    """Whom a post tells: `on_vacancy` when a worker has room again, `on_restart` when one is started anew."""

    on_vacancy: Callable[[], None]
    on_restart: Callable[[], None]


class Post:
    """Keeps one worker running from `fill` until `leave`, and owns it.

    A lost worker is replaced at once, and after growing delays while replacements end before they have served anything,
    without end: a machine that recovers finds its workers again. `worker` is `None` in between.
    """

    def __init__(self, order: Load, limits: Limits, events: Events) -> None:
        self.worker: WorkerProcess | None = None
        self.restarts = 0
        self._order = order
        self._limits = limits
        self._events = events
        self._keeper: asyncio.Task[None] | None = None

    async def fill(self) -> WorkerProcess:
        """Starts the first worker. Raises `ModelLoadError`."""
        worker = await self._start()
        self.worker = worker
        self._keeper = asyncio.create_task(self._keep(worker), name=f"keeper of worker {worker.pid}")
        return worker

    async def leave(self) -> None:
        """Ends the worker, or the start of one. Batches still in flight raise `WorkerDied`."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        worker, self.worker = self.worker, None
        if worker is not None:
            await worker.close()

    async def _start(self) -> WorkerProcess:
        return await WorkerProcess.start(self._order, self._limits, self._events.on_vacancy)

    async def _keep(self, worker: WorkerProcess) -> None:
        failures = 0
        while True:
            await worker.lost.wait()
            failures = 1 if worker.answered else failures + 1
            exit_code = await worker.close()
            self.worker = None
            _log.warning("worker %d of %s %s", worker.pid, self._order.model_file, how_it_ended(exit_code))
            worker, failures = await self._replace(worker, failures)
            self.worker = worker
            _soon(self._events.on_vacancy)

    async def _replace(self, lost: WorkerProcess, failures: int) -> tuple[WorkerProcess, int]:
        """The next worker that loads the same model, and the failures up to it."""
        while True:
            await asyncio.sleep(restart_delay_s(failures))
            self.restarts += 1
            _soon(self._events.on_restart)
            try:
                worker = await self._start()
            except ModelLoadError as error:
                _log.warning("a worker could not be replaced: %s", error)
                failures += 1
                continue
            if worker.loaded.signature == lost.loaded.signature:
                return worker, failures
            _log.warning("%s has changed; its workers cannot be replaced", self._order.model_file)
            await worker.close()
            failures += 1


def _soon(listener: Callable[[], None]) -> None:
    """Calls a listener from the event loop and not from the keeper, which a fault of the listener's would end."""
    asyncio.get_running_loop().call_soon(listener)
