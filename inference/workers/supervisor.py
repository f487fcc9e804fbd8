"""One worker's post: a worker process that is replaced whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from sluice.inference.errors import ModelLoadError
from sluice.inference.repository.snapshot import Held
from sluice.inference.transport.messages import KnownVersion, Load, Loaded
from sluice.inference.types import Death
from sluice.inference.workers.process import WorkerLimits, WorkerProcess

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0

RAN_FAILURES = 5
"""Workers that died of what they ran do not make the next one wait for longer than so many failed starts."""

_log = logging.getLogger("sluice.workers")


def restart_delay_s(failures: int) -> float:
    """How long to wait before the next start, after so many workers in a row that ended without serving anything.

    The first is replaced at once; then the delay doubles from `FIRST_DELAY_S` to `LONGEST_DELAY_S`.
    """
    if failures <= 1:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 2, 30), LONGEST_DELAY_S)


def failures_with(failures: int, answered: int, lived_s: float, *, ran: bool = False) -> int:
    """The failures in a row, once another worker is lost: the first again after one that answered or lived long.

    `ran`: it was lost while it ran a batch, so that it is no fault of the place that it was started in.
    """
    if answered or lived_s > LONGEST_DELAY_S:
        return 1
    return max(failures, min(failures + 1, RAN_FAILURES)) if ran else failures + 1


def known_order(order: Load, loaded: Loaded) -> Load:
    """The order for another worker of the same model: what the first one found out and planned holds for it too."""
    return msgspec.structs.replace(order, plan=loaded.plan, known=KnownVersion(loaded.signature, loaded.findings))


class Events(msgspec.Struct, frozen=True):
    """Whom a post tells: when a worker has room again, when one is started anew, and what one died of."""

    on_vacancy: Callable[[], None]
    on_restart: Callable[[], None]
    on_death: Callable[[Death], None]


class WorkerSupervisor:
    """Keeps one worker running from `fill` until `leave`, and owns it.

    A lost worker is replaced at once, and after growing delays while replacements end before they have served anything,
    without end: a machine that recovers finds its workers again. A replacement loads the files of the snapshot or none.
    `worker` is `None` in between. What goes wrong meanwhile is logged, and the next start is tried all the same.
    `failing_since_s` is when the first of the starts failed that have all failed since, on the monotonic clock.
    """

    def __init__(self, order: Load, files: Held, limits: WorkerLimits, events: Events) -> None:
        self.worker: WorkerProcess | None = None
        self.restarts = 0
        self.failing_since_s: float | None = None
        self._order = order
        self._files = files
        self._limits = limits
        self._events = events
        self._keeper: asyncio.Task[None] | None = None

    async def fill(self) -> WorkerProcess:
        """Starts the first worker. Raises `ModelLoadError`."""
        worker = await self._start(self._order)
        self.worker = worker
        self._keeper = asyncio.create_task(self._keep(worker), name=f"keeper of worker {worker.pid}")
        return worker

    async def leave(self) -> None:
        """Ends the worker, or the start of one. Batches still in flight raise `WorkerDied`."""
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.wait([self._keeper])
        finally:
            worker, self.worker = self.worker, None
            if worker is not None:
                await worker.close()

    async def _start(self, order: Load) -> WorkerProcess:
        """A worker with the model of the snapshot: whatever changed before or while it was read is seen afterwards."""
        await asyncio.to_thread(self._files.check)
        worker = await WorkerProcess.start(order, self._limits, self._events.on_vacancy)
        try:
            await asyncio.to_thread(self._files.check)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _keep(self, worker: WorkerProcess) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            await worker.lost.wait()
            lived_s = loop.time() - began_s
            await self._see_off(worker)
            ran = worker.death is not None and worker.death.ran_s is not None
            failures = failures_with(failures, worker.answered, lived_s, ran=ran)
            worker, failures = await self._replace(worker, failures)
            self.worker = worker
            self.failing_since_s = None
            _soon(self._events.on_vacancy)

    async def _see_off(self, worker: WorkerProcess) -> None:
        try:
            await worker.close()
        except Exception:
            _log.warning("worker %d of %s was lost", worker.pid, self._order.model_file, exc_info=True)
        self.worker = None
        if (death := worker.death) is not None:
            _log.warning("worker %d of %s %s", worker.pid, self._order.model_file, death.how)
            asyncio.get_running_loop().call_soon(self._events.on_death, death)

    async def _replace(self, lost: WorkerProcess, failures: int) -> tuple[WorkerProcess, int]:
        """The next worker that loads the same model, and the failures up to it. It measures nothing again."""
        signature = lost.loaded.signature
        order = known_order(self._order, lost.loaded)
        while True:
            await asyncio.sleep(restart_delay_s(failures))
            self.restarts += 1
            _soon(self._events.on_restart)
            try:
                worker = await self._start(order)
                if worker.loaded.signature == signature:
                    return worker, failures
                await worker.close()
                raise ModelLoadError(f"{order.model_file}: the model has another signature than at its first start")
            except ModelLoadError as error:
                _log.warning("a worker could not be replaced: %s", error)
            except Exception:
                _log.exception("a worker of %s could not be replaced", order.model_file)
            failures += 1
            if self.failing_since_s is None:
                self.failing_since_s = time.monotonic()


def _soon(listener: Callable[[], None]) -> None:
    """Calls a listener from the event loop and not from the keeper, which a fault of the listener's would end."""
    asyncio.get_running_loop().call_soon(listener)
