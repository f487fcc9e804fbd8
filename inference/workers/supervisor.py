"""The supervisor of one worker process: it replaces the worker whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from sluice.inference.errors import ModelLoadError
from sluice.inference.repository.snapshot import SnapshotCheck
from sluice.inference.transport.messages import KnownVersion, Load, Loaded
from sluice.inference.types import Death
from sluice.inference.workers.process import WorkerLimits, WorkerProcess

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0

RAN_FAILURES = 5
"""Workers that die while they run a batch delay the next start at most as much as so many failed starts do."""

_log = logging.getLogger("sluice.workers")


def restart_delay_s(failures: int) -> float:
    """How long to wait before the next start, after `failures` workers in a row that ended without an answer.

    The first one is replaced at once; then the delay doubles from `FIRST_DELAY_S` up to `LONGEST_DELAY_S`.
    """
    if failures <= 1:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 2, 30), LONGEST_DELAY_S)


def failures_with(failures: int, answered: int, lived_s: float, *, ran: bool = False) -> int:
    """The number of failures in a row, including the worker that was just lost.

    It is 1 if that worker had answered a batch or lived for longer than `LONGEST_DELAY_S`. `ran` is true if it was lost
    while it ran a batch, so that starting it was no mistake.
    """
    if answered or lived_s > LONGEST_DELAY_S:
        return 1
    return max(failures, min(failures + 1, RAN_FAILURES)) if ran else failures + 1


def known_order(order: Load, loaded: Loaded) -> Load:
    """The order for a further worker of the same model, with what the first one found out and planned."""
    return msgspec.structs.replace(order, plan=loaded.plan, known=KnownVersion(loaded.signature, loaded.findings))


class Events(msgspec.Struct, frozen=True):
    """What a supervisor calls when a worker can take a batch again, when a replacement starts, and when one died."""

    on_vacancy: Callable[[], None]
    on_restart: Callable[[], None]
    on_death: Callable[[Death], None]


class WorkerSupervisor:
    """Keeps one worker running from `fill` until `leave`, and owns it.

    A lost worker is replaced at once, and after growing delays if replacements end before they have answered anything.
    It never gives up, so that workers come back when the machine recovers. A replacement loads the same files as the
    first worker, or fails. Until there is one, `worker` is `None`. Errors are logged, and the next start is tried.
    `failing_since_s` is since when every start has failed, on the monotonic clock; `None` if the last one did not.
    """

    def __init__(self, order: Load, files: SnapshotCheck, limits: WorkerLimits, events: Events) -> None:
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
        """Starts a worker. Raises `ModelLoadError`, also if the files changed before it had loaded them."""
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
        """Starts workers until one has loaded the same model. Returns it, and the number of failures in a row.

        The plan is kept, and nothing is measured again.
        """
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
    """Calls a listener from the event loop: an error in it would end the supervising task otherwise."""
    asyncio.get_running_loop().call_soon(listener)
