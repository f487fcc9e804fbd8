"""A pool of reader processes, which decode large bodies for one call after another."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import msgspec

from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.messages import Header
from sluice.gateway.reading import reader_bounds
from sluice.gateway.reading.callees import described
from sluice.gateway.reading.fair_queue import FairQueue
from sluice.gateway.reading.faults import BodyRefused, ReaderBug, ReadingFailed, error_of
from sluice.gateway.reading.messages import Decode, Decoded, FindModel, ModelFound, ReaderAnswer
from sluice.gateway.reading.process import ReaderLost, ReaderProcess
from sluice.gateway.reading.reader_bounds import TRIES, ReaderBounds, ReaderFault, given_up, reader_lost
from sluice.gateway.reading.requests import RequestTaken, taken
from sluice.gateway.reading.shared_body import SharedBody
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.reader_metrics import ReaderStatistics
from sluice.gateway.telemetry.sampler import Sampler
from sluice.inference.errors import RequestTooLarge, Unavailable
from sluice.inference.transport.channel import NotSent, PeerGone, WireError

LEFT_S = 0.25
"""How long a reader goes on with the body of a call that was given up. Starting another reader takes about as long."""

SETTLE_S = 0.1
"""How long after a body the memory of its reader is checked: the reader should have given back what it took."""

IDLE_S = 60.0
"""How long readers beyond the first one stay without work."""

HEADER_BYTES = 64 * 1024
"""The headers that a dialect reads may have so many bytes together."""

_TELLS_PER_S = 5
_T = TypeVar("_T")
_Prepared: TypeAlias = Callable[[ReaderProcess], FindModel | Decode]


class _Job(msgspec.Struct, eq=False):
    """A body to be read. `reader` is set while it is read, and `left` once its caller has gone."""

    model: str
    body: SharedBody
    deadline_s: float
    may_take_bytes: int
    prepare: _Prepared
    reader: ReaderProcess | None = None
    left: bool = False


class Readers:
    """At most `count` reader processes. An async context manager: leaving it ends all of them.

    The first one is started for the first large body, and stays. Further ones are started when all are busy. Models
    take turns. A body is read again, up to `TRIES` times, where its reader died or was stopped, since the reason may
    lie outside. A body whose reader had to be killed because it took too much memory or time is refused. All methods
    have to be called in the event loop's thread.
    """

    def __init__(self, count: int) -> None:
        self._queue = FairQueue(count)
        self._idle: list[ReaderProcess] = []
        self._all: set[ReaderProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers: dict[int, int] = {}
        self._next_number = 0
        self._closing = False
        self._bodies = 0
        self._waited_s = self._read_s = 0.0
        self._ends: Counter[ReaderEnd] = Counter()
        self._tells = Sampler(_TELLS_PER_S)

    async def __aenter__(self) -> Readers:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        for reader in tuple(self._all):
            reader.kill(ReaderEnd.CLOSED)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def statistics(self) -> ReaderStatistics:
        """The state of the readers at this moment, and what they have done so far."""
        alive = len(self._all)
        return ReaderStatistics(
            alive=alive,
            busy=alive - len(self._idle),
            waiting=self._queue.waiting,
            bodies=self._bodies,
            waited_s=self._waited_s,
            read_s=self._read_s,
            ends=dict(self._ends),
        )

    async def address(self, dialect: int, body: SharedBody, deadline_s: float) -> Call:
        """The call that a body names. Raises what `Dialect.address` and `decode` raise."""
        answer, _ = await self._ask("", body, deadline_s, 0, lambda _: FindModel(dialect, len(body)))
        if isinstance(answer, ModelFound):
            return Call(answer.model, answer.version, answer.label)
        raise _fault(answer)

    async def decode(
        self, dialect: int, body: SharedBody, headers: Sequence[Header], callee: Callee, deadline_s: float
    ) -> RequestTaken:
        """The request in a body. Raises what `Dialect.decode` raises.

        It also raises `DeadlineExceeded` where the deadline comes first; `RequestTooLarge` where reading takes more
        memory or time than it may; `InvalidRequest` where the body crashed two readers; and `Unavailable` where no
        reader can be started, or readers were killed again and again.
        """
        if sum([len(name) + len(value) for name, value in headers]) > HEADER_BYTES:
            raise RequestTooLarge(f"the headers that say what the body is are longer than {HEADER_BYTES} bytes")
        number, told = self._number_of(callee), tuple(headers)
        may_take_bytes = reader_bounds.memory_bound_bytes(callee, len(body))

        def prepare(reader: ReaderProcess) -> Decode:
            reader.meet(number, lambda: described(callee))
            return Decode(dialect, number, len(body), may_take_bytes, told)

        answer, descriptor = await self._ask(callee.name, body, deadline_s, may_take_bytes, prepare)
        if not isinstance(answer, Decoded):
            raise _fault(answer)
        if descriptor is None:
            raise Unavailable("the request that was read did not reach the gateway: it has too many open files")
        try:
            return await taken(answer, descriptor, callee)
        except OSError as error:
            raise Unavailable(f"there is no memory for the request: {error.strerror}") from error

    def _number_of(self, callee: Callee) -> int:
        """A number for a callee for as long as the object lives. Readers forget it afterwards."""
        number = self._numbers.get(id(callee))
        if number is None:
            number = self._numbers[id(callee)] = self._next_number
            self._next_number += 1
            weakref.finalize(callee, self._on_callee_gone, id(callee)).atexit = False
        return number

    def _on_callee_gone(self, identity: int) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._forget, self._numbers.pop(identity))

    def _forget(self, number: int) -> None:
        for reader in self._all:
            reader.forget(number)

    # One call.

    async def _ask(
        self, model: str, body: SharedBody, deadline_s: float, may_take_bytes: int, prepare: _Prepared
    ) -> tuple[ReaderAnswer, int | None]:
        job = _Job(model, body, deadline_s, may_take_bytes, prepare)
        task = self._keep(self._through(job))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            job.left = True
            task.add_done_callback(_drop)
            if job.reader is None:
                task.cancel()
            else:
                job.reader.hurry(time.monotonic() + LEFT_S)
            raise

    async def _through(self, job: _Job) -> tuple[ReaderAnswer, int | None]:
        came_s = time.monotonic()
        async with self._queue.place(job.model, job.deadline_s - came_s):
            self._waited_s += time.monotonic() - came_s
            self._bodies += 1
            tries: Counter[ReaderFault] = Counter()
            while True:
                try:
                    return await self._read(job)
                except ReaderLost as lost:
                    if lost.end not in (ReaderEnd.DIED, ReaderEnd.STALLED) or job.left:
                        raise reader_lost(lost.end) from lost
                    fault = await self._fault_of(lost)
                    tries[fault] += 1
                    if tries[fault] >= TRIES[fault]:
                        raise given_up(fault, tries[fault]) from lost

    async def _read(self, job: _Job) -> tuple[ReaderAnswer, int | None]:
        reader = await self._take(job)
        began_s = time.monotonic()
        memory_bytes = max(reader_bounds.OWN_BYTES, reader.own_bytes) + job.may_take_bytes
        bounds = ReaderBounds(memory_bytes, began_s + reader_bounds.READ_S, job.deadline_s)
        try:
            order = job.prepare(reader)
            answering = reader.ask(order, job.body.descriptor, bounds)
            job.reader = reader
            return await answering
        except (OSError, NotSent) as error:
            raise Unavailable(f"a large request could not be given to a reader: {error}") from error
        except (PeerGone, WireError) as error:
            reader.kill(ReaderEnd.DIED)
            raise ReaderLost(reader, ReaderEnd.DIED) from error
        finally:
            job.reader = None
            self._read_s += time.monotonic() - began_s
            if reader.alive:
                self._idle.append(reader)
                self._loop.call_later(SETTLE_S, self._settle, reader)
                self._loop.call_later(IDLE_S + 1, self._end_idle, reader)

    async def _take(self, job: _Job) -> ReaderProcess:
        if self._idle:
            return self._idle.pop()
        if self._closing:
            raise Unavailable("the gateway is stopping")
        try:
            async with asyncio.timeout(job.deadline_s - time.monotonic()):
                reader = await ReaderProcess.start(self._on_end)
        except TimeoutError:
            raise reader_lost(ReaderEnd.DEADLINE) from None
        except OSError as error:
            raise Unavailable(f"no process to read a large request could be started: {error.strerror}") from error
        self._all.add(reader)
        if self._closing:
            reader.kill(ReaderEnd.CLOSED)
        return reader

    async def _fault_of(self, lost: ReaderLost) -> ReaderFault:
        if lost.end is ReaderEnd.STALLED:
            return ReaderFault.STALLED
        return ReaderFault.KILLED if await lost.reader.close() == -signal.SIGKILL else ReaderFault.CRASHED

    # The processes.

    def _settle(self, reader: ReaderProcess) -> None:
        """Replace a reader that has not given back what it took."""
        if reader in self._idle and reader.own_bytes > reader_bounds.OWN_BYTES:
            reader.kill(ReaderEnd.GREW)

    def _end_idle(self, reader: ReaderProcess) -> None:
        if reader in self._idle and len(self._all) > 1 and time.monotonic() - reader.since_s >= IDLE_S:
            reader.kill(ReaderEnd.IDLE)

    def _on_end(self, reader: ReaderProcess) -> None:
        assert reader.end is not None
        self._ends[reader.end] += 1
        self._all.discard(reader)
        if reader in self._idle:
            self._idle.remove(reader)
        self._keep(reader.close())
        if self._closing or reader.end is ReaderEnd.IDLE:
            return
        kept_back = self._tells.admit(time.monotonic())
        if kept_back is not None:
            log.warning("a reader has ended", pid=reader.pid, because=reader.end.value, more_kept_back=kept_back)

    def _keep(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def planned_readers(setting: int) -> int:
    """The number of readers: the setting, or where it is 0, half the number of processors and at least 2.

    There are two, so that a body that takes long does not hold up all others.
    """
    return setting or max(2, len(os.sched_getaffinity(0)) // 2)


def _fault(answer: ReaderAnswer) -> Exception:
    if isinstance(answer, BodyRefused):
        return error_of(answer)
    return ReadingFailed(
        answer.trace if isinstance(answer, ReaderBug) else f"a reader answered {type(answer).__name__}"
    )


def _drop(task: asyncio.Task[tuple[ReaderAnswer, int | None]]) -> None:
    """Close the file that came with an answer for which nobody waits any more."""
    if not task.cancelled() and task.exception() is None and (descriptor := task.result()[1]) is not None:
        os.close(descriptor)
