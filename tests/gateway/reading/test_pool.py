from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import psutil
import pytest

from sluice.gateway.dialects.base import Call, Callee
from sluice.gateway.dialects.openai.codec import OpenAI
from sluice.gateway.dialects.tfs.codec import TfsPredict
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.reading import process, reader_bounds
from sluice.gateway.reading.codecs import number_of
from sluice.gateway.reading.faults import BodyRefused, message_of
from sluice.gateway.reading.pool import Readers, planned_readers
from sluice.gateway.reading.process import ReaderProcess
from sluice.gateway.reading.shared_body import SharedBody
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, Unavailable
from sluice.inference.types import Datatype, Signature, TensorSpec
from tests.gateway.dialects.bodies import body_of, callee_of
from tests.gateway.reading.reading import PATIENCE_S, is_reader, pids, read, shared, stopped, until

BODY, CALLEE = body_of("[1, 2]", [2, 1]), callee_of()


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    async with Readers(2) as made:
        yield made
    assert not pids()


async def warm(readers: Readers) -> int:
    """The pid of a reader that has read something."""
    await read(readers, V2(), BODY, CALLEE)
    [pid] = pids()
    return pid


async def reading(readers: Readers, patience_s: float = PATIENCE_S) -> asyncio.Task[object]:
    """A call that is being read, by a reader that the test has stopped."""
    bodies = readers.statistics().bodies
    task: asyncio.Task[object] = asyncio.create_task(read(readers, V2(), BODY, CALLEE, patience_s=patience_s))

    def begun() -> bool:
        now = readers.statistics()
        return task.done() or (now.bodies > bodies and now.busy > 0)

    await until(begun)
    return task


async def test_readers_come_when_they_are_needed_and_stand_back(readers: Readers) -> None:
    assert not pids()
    pid = await warm(readers)
    assert psutil.Process(pid).nice() == os.nice(0) + 5
    assert await warm(readers) == pid
    await asyncio.gather(*[read(readers, V2(), BODY, CALLEE) for _ in range(20)])
    assert len(pids()) == 2
    now = readers.statistics()
    assert (now.alive, now.busy, now.waiting, now.bodies) == (2, 0, 0, 22)


async def test_numbers_are_looked_at_where_the_reader_put_them(readers: Readers) -> None:
    request = await read(readers, V2(), BODY, CALLEE)
    array = request.inputs[0].array
    assert np.array_equal(array, np.array([[1], [2]], np.float32))
    assert not array.flags.owndata
    assert not array.flags.writeable


async def test_a_reader_that_is_killed_is_replaced_and_the_call_answered(readers: Readers) -> None:
    pid = await warm(readers)
    with stopped(pid):
        call = await reading(readers)
        os.kill(pid, signal.SIGKILL)
        await call
    assert pids() != {pid}
    assert readers.statistics().ends == {ReaderEnd.DIED: 1}


async def test_a_reader_that_died_at_rest_is_not_missed(readers: Readers) -> None:
    psutil.Process(await warm(readers)).kill()
    await read(readers, V2(), BODY, CALLEE)


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (signal.SIGKILL, Unavailable, "were killed, 6 times in all"),
        (signal.SIGABRT, InvalidRequest, "crashed the process .* twice"),
    ],
)
async def test_a_body_that_readers_die_of_is_refused(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], said: str
) -> None:
    """If a signal from outside killed the reader, the body need not be the reason; if the reader crashed, it is."""
    ask = ReaderProcess.ask

    def asked(self: ReaderProcess, *arguments: object) -> object:
        os.kill(self.pid, signal.SIGSTOP)
        answer = ask(self, *arguments)  # type: ignore[arg-type]
        os.kill(self.pid, number)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        return answer

    await warm(readers)
    monkeypatch.setattr(ReaderProcess, "ask", asked)
    with pytest.raises(kind, match=said):
        await read(readers, V2(), BODY, CALLEE)
    monkeypatch.undo()
    await read(readers, V2(), BODY, CALLEE)


async def test_readers_that_are_killed_again_and_again_cost_nobody_an_answer(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, kills = ReaderProcess.ask, 5

    def asked(self: ReaderProcess, *arguments: object) -> object:
        nonlocal kills
        os.kill(self.pid, signal.SIGSTOP)
        answer = ask(self, *arguments)  # type: ignore[arg-type]
        if kills:
            os.kill(self.pid, signal.SIGKILL)
            kills -= 1
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        return answer

    await warm(readers)
    monkeypatch.setattr(ReaderProcess, "ask", asked)
    await read(readers, V2(), BODY, CALLEE)
    assert not kills
    assert readers.statistics().ends[ReaderEnd.DIED] == 5


async def test_a_call_ends_in_time_and_others_go_on(readers: Readers) -> None:
    with stopped(await warm(readers)):
        call = await reading(readers, patience_s=0.5)
        await read(readers, V2(), BODY, CALLEE)
        with pytest.raises(DeadlineExceeded, match="before its body was read"):
            await call
    assert readers.statistics().ends == {ReaderEnd.DEADLINE: 1}


async def test_a_reader_that_does_not_run_is_replaced(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STALLED_S", 0.5)
    with stopped(await warm(readers)):
        await (await reading(readers))
    assert readers.statistics().ends[ReaderEnd.STALLED] >= 1


async def test_memory_is_bounded(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = await warm(readers)
    monkeypatch.setattr(reader_bounds, "OWN_BYTES", 0)
    monkeypatch.setattr(reader_bounds, "LEAST_BYTES", -(1 << 30))
    monkeypatch.setattr(reader_bounds, "MEMORY_TIMES", -1_000_000)
    with stopped(pid), pytest.raises(RequestTooLarge, match="times its length in memory; send fewer"):
        await (await reading(readers))
    assert readers.statistics().ends == {ReaderEnd.MEMORY: 1}


async def test_a_body_that_takes_much_memory_is_refused_and_leaves_nothing(readers: Readers) -> None:
    """Each object has three bytes and takes some 70: too many for the system's limit, or for the gateway's check."""
    body = b'{"inputs": [], "x": [' + b"{}," * (20 << 20) + b"{}]}"
    with pytest.raises((RequestTooLarge, InvalidRequest)):
        await read(readers, V2(), body, CALLEE)
    assert readers.statistics().busy == 0


async def test_short_bodies_of_many_strings_are_read(readers: Readers) -> None:
    """Even by a reader that already has all the memory that it may keep."""
    words = TensorSpec("x", Datatype.BYTES, (None,))
    callee = Callee("words", 1, Signature((words,), (words,), True), ModelConfig())
    body = b'{"instances": [' + b'"a",' * 59_999 + b'"b"]}'
    for _ in range(3):
        request = await read(readers, TfsPredict(), body, callee)
        assert request.inputs[0].array.tolist() == [b"a"] * 59_999 + [b"b"]


def test_a_lack_of_memory_is_the_bodys() -> None:
    refused = message_of(MemoryError())
    assert isinstance(refused, BodyRefused)
    assert refused.kind == "RequestTooLarge"


async def test_time_is_bounded(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = await warm(readers)
    monkeypatch.setattr(reader_bounds, "READ_S", 0.05)
    with stopped(pid), pytest.raises(RequestTooLarge, match=r"takes more than 0.05 s; send fewer"):
        await (await reading(readers))


async def test_what_nobody_waits_for_soon_ends(readers: Readers) -> None:
    with stopped(await warm(readers)):
        call = await reading(readers)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: bool(readers.statistics().ends))
    assert readers.statistics().busy == 0


async def test_a_reader_goes_on_to_the_end_of_what_was_given_up(readers: Readers) -> None:
    pid = await warm(readers)
    with stopped(pid):
        call = await reading(readers)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await until(lambda: not readers.statistics().busy)
    if not readers.statistics().ends:  # it had the processor in time
        assert pids() == {pid}


async def test_without_a_process_the_call_is_refused(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(_: object) -> ReaderProcess:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(ReaderProcess, "start", start)
    with pytest.raises(Unavailable, match="could be started: Too many open files"):
        await read(readers, V2(), BODY, CALLEE)
    assert readers.statistics().busy == 0


def test_without_memory_files_the_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def memfd_create(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    with pytest.raises(Unavailable, match="there is no memory to read a large request: Too many open files"):
        SharedBody()


async def test_leaving_ends_what_is_being_read() -> None:
    async with Readers(1) as readers:
        with stopped(await warm(readers)):
            call = await reading(readers)
            waits = asyncio.create_task(read(readers, V2(), BODY, CALLEE))
            await until(lambda: readers.statistics().waiting > 0)
            await readers.__aexit__()
            for each in (call, waits):
                with pytest.raises(Unavailable):
                    await each
    assert not pids()


async def test_a_body_says_whom_it_names(readers: Readers) -> None:
    number = number_of(OpenAI())
    assert number is not None
    with shared(b'{"model": "texts", "input": "x"}') as body:
        assert await readers.address(number, body, time.monotonic() + PATIENCE_S) == Call("texts")
    with shared(b"{") as body, pytest.raises(InvalidRequest):
        await readers.address(number, body, time.monotonic() + PATIENCE_S)


async def test_models_that_have_left_are_forgotten(readers: Readers) -> None:
    callee = callee_of()
    await read(readers, V2(), BODY, callee)
    [reader] = readers._all
    assert len(reader._met) == len(readers._numbers) == 1
    del callee
    gc.collect()
    await asyncio.sleep(0)
    assert not reader._met
    assert not readers._numbers
    await read(readers, V2(), BODY, CALLEE)


async def test_a_reader_that_grew_is_replaced(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = await warm(readers)
    monkeypatch.setattr(reader_bounds, "OWN_BYTES", 1)
    monkeypatch.setattr(reader_bounds, "MEMORY_TIMES", 1 << 30)
    await read(readers, V2(), BODY, CALLEE)
    await until(lambda: pid not in pids())
    assert readers.statistics().ends == {ReaderEnd.GREW: 1}


def test_there_are_as_many_as_are_set() -> None:
    assert planned_readers(3) == 3
    assert planned_readers(0) >= 2


def test_a_reader_is_known_by_its_command_line() -> None:
    assert not is_reader(psutil.Process())
