"""The readers: a few processes that decode large bodies, and who has one when."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import msgspec

from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.messages import Header
from sluice.gateway.reading.callees import described
from sluice.gateway.reading.faults import BodyRefused, Broke, ReadingFailed, raised
from sluice.gateway.reading.messages import Answer, Decode, Decoded, FindModel, ModelFound
from sluice.gateway.reading.places import Places
from sluice.gateway.reading.process import ReaderBounds, ReaderLost, ReaderProcess
from sluice.gateway.reading.requests import RequestTaken, taken
from sluice.gateway.reading.shared_body import SharedBody
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.gateway.telemetry.logs import log
from sluice.gateway.telemetry.reader_metrics import ReaderStatistics
from sluice.gateway.telemetry.sampler import Sampler
from sluice.inference.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, SluiceError, Unavailable
from sluice.inference.transport.channel import NotSent, PeerGone, WireError

MEMORY_TIMES = 8
"""Memory that reading a body may take, in lengths of the body."""

LEAST_BYTES = 16 << 20
"""What reading may take of any body: many short strings take more than that often their length, and it is not much."""

OWN_BYTES = 64 << 20
"""What a reader may have beside that: the interpreter, the libraries, and what the last body left behind."""

PIXEL_BYTES = 16
"""What reading a picture may take for each pixel that its model allows."""

CHARACTER_BYTES, TOKENIZER_TIMES = 128, 16
"""What tokenising may take for each character that a call may have, and a tokenizer for each byte of its file."""

READ_S = 30.0
"""How long reading one body may take."""

LEFT_S = 0.25
"""How long a reader goes on for a call that was given up. To start another one takes about as long."""

SETTLE_S = 0.1
"""When a reader that is done is looked at: it should have given back what it took by then."""

IDLE_S = 60.0
"""How long readers beyond the first stay without work."""

KILLED, STALLED, CRASHED = "killed", "stalled", "crashed"
TRIES: Mapping[str, int] = MappingProxyType({KILLED: 6, STALLED: 2, CRASHED: 2})
"""So often a body is read: whoever kills readers from outside, or the kernel, need not have meant it."""

HEADER_BYTES = 64 * 1024
"""Of headers that a dialect reads, all together."""

_TELLS_PER_S = 5
_T = TypeVar("_T")
_Prepared: TypeAlias = Callable[[ReaderProcess], FindModel | Decode]


class _Job(msgspec.Struct, eq=False):
    """One call's way through a reader; `reader` is there while it is read, and `left` once its caller has gone."""

    model: str
    body: SharedBody
    deadline_s: float
    may_take_bytes: int
    prepare: _Prepared
    reader: ReaderProcess | None = None
    left: bool = False


class Readers:
    """At most `count` reader processes. An async context manager: left, none of them lives.

    The first one is started for the first large body, further ones when all are busy; one stays. Models take turns. A
    call is read anew where its reader died or was stopped, for that may come from outside (`TRIES`); what we killed a
    reader for, be it memory or time, is the body's own fault, and refused. All methods belong to the event loop.
    """

    def __init__(self, count: int) -> None:
        self._places = Places(count)
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
        """How things are now."""
        alive = len(self._all)
        return ReaderStatistics(
            alive=alive,
            busy=alive - len(self._idle),
            waiting=self._places.waiting,
            bodies=self._bodies,
            waited_s=self._waited_s,
            read_s=self._read_s,
            ends=dict(self._ends),
        )

    async def address(self, dialect: int, body: SharedBody, deadline_s: float) -> Call:
        """The call that a body names. Raises as `Dialect.address` does, and as `decode`."""
        answer, _ = await self._ask("", body, deadline_s, 0, lambda _: FindModel(dialect, len(body)))
        if isinstance(answer, ModelFound):
            return Call(answer.model, answer.version, answer.label)
        raise _fault(answer)

    async def decode(
        self, dialect: int, body: SharedBody, headers: Sequence[Header], callee: Callee, deadline_s: float
    ) -> RequestTaken:
        """The request in a body. Raises as `Dialect.decode` does.

        Beside that, `DeadlineExceeded` where it comes first; `RequestTooLarge` where reading takes more memory or time
        than it may; `InvalidRequest` where it crashed two readers; and `Unavailable` where no reader is to be had, or
        those that there were have been killed again and again.
        """
        if sum([len(name) + len(value) for name, value in headers]) > HEADER_BYTES:
            raise RequestTooLarge(f"the headers that say what the body is are longer than {HEADER_BYTES} bytes")
        number, told = self._number_of(callee), tuple(headers)
        may_take_bytes = max(MEMORY_TIMES * len(body), LEAST_BYTES) + _extra_bytes(callee, len(body))

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
        """A number for a callee for as long as it lives; then readers forget it."""
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
    ) -> tuple[Answer, int | None]:
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

    async def _through(self, job: _Job) -> tuple[Answer, int | None]:
        came_s = time.monotonic()
        async with self._places.place(job.model, job.deadline_s - came_s):
            self._waited_s += time.monotonic() - came_s
            self._bodies += 1
            tries: Counter[str] = Counter()
            while True:
                try:
                    return await self._read(job)
                except ReaderLost as lost:
                    if lost.end not in (ReaderEnd.DIED, ReaderEnd.STALLED) or job.left:
                        raise _lost(lost.end) from lost
                    fault = await self._fault_of(lost)
                    tries[fault] += 1
                    if tries[fault] >= TRIES[fault]:
                        raise _given_up(fault, tries[fault]) from lost

    async def _read(self, job: _Job) -> tuple[Answer, int | None]:
        reader = await self._take(job)
        began_s = time.monotonic()
        memory_bytes = max(OWN_BYTES, reader.own_bytes) + job.may_take_bytes
        try:
            order = job.prepare(reader)
            answering = reader.ask(
                order, job.body.descriptor, ReaderBounds(memory_bytes, began_s + READ_S, job.deadline_s)
            )
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
            raise _lost(ReaderEnd.DEADLINE) from None
        except OSError as error:
            raise Unavailable(f"no process to read a large request could be started: {error.strerror}") from error
        self._all.add(reader)
        if self._closing:
            reader.kill(ReaderEnd.CLOSED)
        return reader

    async def _fault_of(self, lost: ReaderLost) -> str:
        """What took a reader from its body: it was killed, it stood still, or it ended by itself."""
        if lost.end is ReaderEnd.STALLED:
            return STALLED
        return KILLED if await lost.reader.close() == -signal.SIGKILL else CRASHED

    # The processes.

    def _settle(self, reader: ReaderProcess) -> None:
        """Replace a reader that has not given back what it took."""
        if reader in self._idle and reader.own_bytes > OWN_BYTES:
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
    """How many readers there may be at a time: as many as are set, or half as many as there are processors, from 2 up.

    Two, so that a body that takes long does not hold up all others.
    """
    return setting or max(2, len(os.sched_getaffinity(0)) // 2)


def _extra_bytes(callee: Callee, body_bytes: int) -> int:
    """What the libraries for pictures and texts may take beside, by what the model allows of either."""
    pixels = [each.image.max_pixels for each in callee.config.input.values() if each.image is not None]
    extra_bytes = PIXEL_BYTES * max(pixels, default=0)
    if callee.config.text is not None and callee.tokenizer is not None:
        extra_bytes += CHARACTER_BYTES * min(body_bytes, callee.config.text.max_characters)
        extra_bytes += TOKENIZER_TIMES * callee.tokenizer.disk.size_bytes
    return extra_bytes


def _fault(answer: Answer) -> Exception:
    if isinstance(answer, BodyRefused):
        return raised(answer)
    return ReadingFailed(answer.trace if isinstance(answer, Broke) else f"a reader answered {type(answer).__name__}")


def _lost(why: ReaderEnd) -> SluiceError:
    """What a caller is told whose reader was killed."""
    if why is ReaderEnd.DEADLINE:
        return DeadlineExceeded("the time for the request was over before its body was read")
    if why is ReaderEnd.MEMORY:
        return RequestTooLarge(
            f"reading the body takes more than {MEMORY_TIMES} times its length in memory; send fewer elements at a time"
        )
    if why is ReaderEnd.TIME:
        return RequestTooLarge(f"reading the body takes more than {READ_S:g} s; send fewer elements at a time")
    return Unavailable("the process that read the request has ended; try again")


def _given_up(fault: str, tries: int) -> SluiceError:
    """What a caller is told whose body was read in vain, so often."""
    if fault == KILLED:
        return Unavailable(f"the processes that read the request were killed, {tries} times in all; try again")
    if fault == STALLED:
        return _lost(ReaderEnd.STALLED)
    return InvalidRequest("the body crashed the process that read it, twice; expected a body that can be read")


def _drop(task: asyncio.Task[tuple[Answer, int | None]]) -> None:
    """Nobody waits for this answer."""
    if not task.cancelled() and task.exception() is None and (descriptor := task.result()[1]) is not None:
        os.close(descriptor)
