"""How workers start, die and end, with real processes."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop

import sluice
from sluice.inference.errors import ModelLoadError, WorkerDied
from sluice.inference.repository.snapshot import take_snapshot
from sluice.inference.serving_plan import PlanTerms
from sluice.inference.transport.messages import Load
from sluice.inference.types import Cause, Death, Vacancy
from sluice.inference.workers.pool import WorkerOptions, Workers
from sluice.inference.workers.process import WorkerProcess
from sluice.inference.workers.spawn import end, kill, load, spawn
from tests import models
from tests.inference.running import (
    ENDLESS,
    PATIENCE_S,
    SHORT,
    Listener,
    children,
    nothing_left,
    running,
    until,
    until_in_flight,
)

GATEWAY = """
import asyncio, sys
from pathlib import Path
from sluice.inference.planning.options import WorkerOptions
from sluice.inference.workers.pool import Workers
import numpy as np

async def main():
    nothing = lambda: None
    async with Workers(Path(sys.argv[1]), WorkerOptions(count=2), on_vacancy=nothing, on_restart=nothing) as workers:
        endless = (np.zeros((1, 1), np.float32), np.array([[2**62]]))
        run = asyncio.ensure_future(workers.run([endless], ["y"]))
        await asyncio.sleep(0)
        print(*workers.statistics().pids, flush=True)
        await run

asyncio.run(main())
"""


async def _answers(workers: Workers) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert (await workers.run([SHORT], ["y"])).outputs[0].tolist() == [[5]]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_killed_worker_is_replaced(new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_killed_with_a_batch_running_and_one_waiting(tmp_path))


async def _killed_with_a_batch_running_and_one_waiting(tmp_path: Path) -> None:
    with nothing_left():
        async with running(models.loop(), tmp_path) as (workers, listener):
            running_batch = asyncio.create_task(workers.run([ENDLESS], ["y"]))
            waiting_batch = asyncio.create_task(workers.run([SHORT], ["y"]))
            await until_in_flight(workers, 2)
            (pid,) = workers.statistics().pids
            os.kill(pid, signal.SIGKILL)
            errors = await asyncio.gather(running_batch, waiting_batch, return_exceptions=True)
            assert [type(error) for error in errors] == [WorkerDied, WorkerDied]
            assert [error.running for error in errors if isinstance(error, WorkerDied)] == [True, False]
            assert str(errors[0]).startswith(f"worker process {pid} was ended by SIGKILL from outside, ")
            assert [error.death.cause for error in errors if isinstance(error, WorkerDied) and error.death] == [
                Cause.KILLED,
                Cause.KILLED,
            ]
            await listener.until_idle(workers, 1)
            await _answers(workers)
            statistics = workers.statistics()
            assert statistics.pids != (pid,)
            assert (statistics.alive, statistics.restarts, listener.restarts) == (1, 1, 1)


async def test_a_batch_that_does_not_end_has_its_worker_killed(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, run_timeout_s=0.3)
    async with running(models.loop(), tmp_path, options) as (workers, listener):
        for _ in range(2):
            with pytest.raises(WorkerDied, match=r"ran for longer than 0\.3 s") as caught:
                await workers.run([ENDLESS], ["y"])
            assert caught.value.running
            await listener.until_idle(workers, 1)
            await _answers(workers)
        assert workers.statistics().restarts == 2


async def test_the_log_says_why_the_gateway_killed_a_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (pid,) = workers.statistics().pids
        with pytest.raises(WorkerDied):
            await workers.run([ENDLESS], ["y"], limit_s=0.2)
        await listener.until_idle(workers, 1)
    assert _told(caplog, pid) == ["was killed: a batch ran for longer than 0.2 s"]


async def test_the_log_says_which_signal_of_others_ended_a_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (pid,) = workers.statistics().pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: listener.restarts == 1)
        await listener.until_idle(workers, 1)
    assert [line.partition(";")[0] for line in _told(caplog, pid)] == ["was ended by SIGKILL from outside"]


def _told(caplog: pytest.LogCaptureFixture, pid: int) -> list[str]:
    told = [record.getMessage() for record in caplog.records if record.name == "sluice.workers"]
    return [line.partition(".onnx ")[2] for line in told if line.startswith(f"worker {pid} of ")]


async def test_a_batch_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        with pytest.raises(WorkerDied, match=r"ran for longer than 0\.2 s") as caught:
            await workers.run([ENDLESS], ["y"], limit_s=0.2)
        assert caught.value.running
        await listener.until_idle(workers, 1)
        await _answers(workers)


async def test_a_generous_limit_does_not_lift_the_one_for_all(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, run_timeout_s=0.2)
    async with running(models.loop(), tmp_path, options) as (workers, _):
        with pytest.raises(WorkerDied, match=r"ran for longer than 0\.2 s"):
            await workers.run([ENDLESS], ["y"], limit_s=3600)


async def test_the_limit_counts_from_when_the_batch_begins_to_run(tmp_path: Path) -> None:
    """The second batch waits for longer than its short limit. Only the limit of the running one ends the worker."""
    async with running(models.loop(), tmp_path) as (workers, listener):
        ahead = asyncio.create_task(workers.run([ENDLESS], ["y"], limit_s=0.5))
        behind = asyncio.create_task(workers.run([SHORT], ["y"], limit_s=0.01))
        ends = await asyncio.gather(ahead, behind, return_exceptions=True)
        assert [str(end).endswith("ran for longer than 0.5 s") for end in ends] == [True, True]
        assert [error.running for error in ends if isinstance(error, WorkerDied)] == [True, False]
        await listener.until_idle(workers, 1)


async def test_a_tight_limit_holds_behind_a_batch_with_a_generous_one(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        ahead = asyncio.create_task(workers.run([SHORT], ["y"], limit_s=3600))
        behind = asyncio.create_task(workers.run([ENDLESS], ["y"], limit_s=0.2))
        assert (await ahead).outputs[0].tolist() == [[5]]
        with pytest.raises(WorkerDied, match=r"ran for longer than 0\.2 s"):
            await behind
        await listener.until_idle(workers, 1)
        await _answers(workers)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_that_a_busy_gateway_has_not_read_yet_saves_its_worker(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with running(models.loop(), tmp_path) as (workers, listener):
            limit_s = 0.05
            batch = asyncio.create_task(workers.run([SHORT], ["y"], limit_s=limit_s))
            await until_in_flight(workers, 1)
            overdue_s = time.monotonic() + limit_s
            worker = workers._supervisors[0].worker
            assert worker is not None
            select.select([worker._channel], [], [], PATIENCE_S)  # the loop does not turn, and has read nothing
            while time.monotonic() < overdue_s:
                pass
            worker._check_oldest()  # as a loop that runs its timers before it reads
            assert (await batch).outputs[0].tolist() == [[5]]
            assert listener.restarts == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_a_batch_for_a_worker_that_is_dead_was_not_running(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (pid,) = workers.statistics().pids
        handle = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([handle], [], [], PATIENCE_S)  # the loop does not turn, and has not seen the end of it
        os.close(handle)
        with pytest.raises(WorkerDied) as caught:
            await workers.run([SHORT], ["y"])
        assert not caught.value.running
        assert workers.vacancy() == Vacancy(0, 0, 0)
        await listener.until_idle(workers, 1)
        await _answers(workers)


async def test_other_workers_answer_while_one_is_lost(tmp_path: Path) -> None:
    options = WorkerOptions(count=2, intra_op_threads=1)
    async with running(models.loop(), tmp_path, options) as (workers, listener):
        first, second = workers.statistics().pids
        os.kill(first, signal.SIGKILL)
        await until(lambda: workers.vacancy() == Vacancy(1, 0, 1))
        await _answers(workers)
        assert second in workers.statistics().pids
        await listener.until_idle(workers, 2)


async def test_a_stopped_worker_is_missed_as_a_slow_one(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, run_timeout_s=0.3)
    async with running(models.loop(), tmp_path, options) as (workers, listener):
        os.kill(workers.statistics().pids[0], signal.SIGSTOP)
        with pytest.raises(WorkerDied):
            await workers.run([SHORT], ["y"])
        await listener.until_idle(workers, 1)
        await _answers(workers)


async def test_a_stopped_worker_is_replaced_long_before_a_slow_one(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        os.kill(workers.statistics().pids[0], signal.SIGSTOP)
        ahead = asyncio.create_task(workers.run([SHORT], ["y"]))
        behind = asyncio.create_task(workers.run([SHORT], ["y"]))
        ends = await asyncio.gather(ahead, behind, return_exceptions=True)
        assert [(end.running, _cause(end)) for end in ends if isinstance(end, WorkerDied)] == [
            (True, Cause.FROZEN),
            (False, Cause.FROZEN),
        ]
        assert "it had been stopped" in str(ends[0])
        await listener.until_idle(workers, 1)
        await _answers(workers)


async def test_a_worker_that_is_stopped_for_a_moment_goes_on(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (pid,) = workers.statistics().pids
        os.kill(pid, signal.SIGSTOP)
        batch = asyncio.create_task(workers.run([SHORT], ["y"]))
        await until_in_flight(workers, 1)
        os.kill(pid, signal.SIGCONT)
        assert (await batch).outputs[0].tolist() == [[5]]
        assert listener.restarts == 0


async def test_a_run_that_crashes_is_told_from_a_worker_that_is_killed(tmp_path: Path) -> None:
    crash = (np.array([[-(2**63)]]), np.array([[-1]]))
    async with running(models.divide(), tmp_path) as (workers, listener):
        deaths: list[Death] = []
        workers.on_death = deaths.append
        with pytest.raises(WorkerDied, match="was ended by SIGFPE") as caught:
            await workers.run([crash], ["y"])
        assert caught.value.running
        assert _cause(caught.value) is Cause.CRASHED
        await listener.until_idle(workers, 1)
        os.kill(workers.statistics().pids[0], signal.SIGKILL)
        await until(lambda: listener.restarts == 2)
        await listener.until_idle(workers, 1)
        assert [(death.cause, death.ran_s is None) for death in deaths] == [
            (Cause.CRASHED, False),
            (Cause.KILLED, True),
        ]


def _cause(error: WorkerDied) -> Cause | None:
    return None if error.death is None else error.death.cause


async def test_all_workers_that_are_killed_at_once_are_replaced(tmp_path: Path) -> None:
    options = WorkerOptions(count=3, intra_op_threads=1)
    async with running(models.loop(), tmp_path, options) as (workers, listener):
        deaths: list[Death] = []
        workers.on_death = deaths.append
        batches = [asyncio.create_task(workers.run([ENDLESS], ["y"])) for _ in range(3)]
        await until_in_flight(workers, 3)
        for pid in workers.statistics().pids:
            os.kill(pid, signal.SIGKILL)
        ends = await asyncio.gather(*batches, return_exceptions=True)
        assert [type(end) for end in ends] == [WorkerDied] * 3
        await listener.until_idle(workers, 3)
        await _answers(workers)
        assert [death.cause for death in deaths] == [Cause.KILLED] * 3
        # The register is the process's: a test before this one may have ended workers in the same second.
        assert max(death.beside for death in deaths) >= 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_replacement_that_is_hit_while_it_loads_is_tried_again(tmp_path: Path, number: signal.Signals) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (first,) = workers.statistics().pids
        others = set(children()) - {first}
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(_loading(first, others)) == 1)
        os.kill(_loading(first, others)[0], number)
        await until(lambda: listener.restarts == 2)
        await listener.until_idle(workers, 1)
        await _answers(workers)


def _loading(first: int, others: set[int]) -> list[int]:
    """The replacement, once it has passed `exec`: if it were stopped earlier, it would block its parent."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            is_worker = any("sluice.inference.worker.main" in argument for argument in child.cmdline())
            if is_worker and child.pid not in {first, *others}:
                found.append(child.pid)
    return found


async def test_a_worker_goes_on_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        (pid,) = workers.statistics().pids
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        await _answers(workers)
        assert workers.statistics().pids == (pid,)
        assert listener.restarts == 0


async def test_a_replacement_that_cannot_load_is_tried_again(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        file = tmp_path / "model.onnx"
        kept = file.rename(tmp_path / "kept.onnx")
        os.kill(workers.statistics().pids[0], signal.SIGKILL)
        await until(lambda: listener.restarts == 2)  # the second start begins after the first has failed
        assert workers.vacancy() == Vacancy(0, 0, 0)
        kept.rename(file)
        await listener.until_idle(workers, 1)
        await _answers(workers)


async def test_other_weights_are_never_served_as_the_same_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([2, 3], np.float32).tobytes())
    x = (np.ones((1, 1), np.float32),)
    with nothing_left():
        async with running(models.external_weights("w.bin"), tmp_path) as (workers, listener):
            kept = (tmp_path / "w.bin").rename(tmp_path / "kept.bin")
            (tmp_path / "w.bin").write_bytes(np.array([4, 5], np.float32).tobytes())
            os.kill(workers.statistics().pids[0], signal.SIGKILL)
            await until(lambda: listener.restarts == 2)
            assert workers.vacancy() == Vacancy(0, 0, 0)
            kept.rename(tmp_path / "w.bin")
            await listener.until_idle(workers, 1)
            assert (await workers.run([x], ["y"])).outputs[0].tolist() == [[2, 3]]
    told = [record.getMessage() for record in caplog.records if record.name == "sluice.workers"]
    assert any(f"{tmp_path}/w.bin: has changed since the version was taken into service" in line for line in told)


async def test_files_that_changed_since_their_digest_was_taken_are_not_loaded(tmp_path: Path) -> None:
    file = models.place(models.tiny(), tmp_path)
    snapshot = take_snapshot(file)
    models.place(models.linear(), tmp_path)
    nothing = Listener()
    workers = Workers(
        file, WorkerOptions(), on_vacancy=nothing.on_vacancy, on_restart=nothing.on_restart, files=snapshot
    )
    with nothing_left(), pytest.raises(ModelLoadError, match="has changed since"):
        async with workers:
            pytest.fail("the workers were entered")


async def test_files_that_change_while_they_are_loaded_are_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = WorkerProcess.start

    async def start(*arguments: Any) -> WorkerProcess:
        models.place(models.linear(), tmp_path)
        return await started(*arguments)

    monkeypatch.setattr(WorkerProcess, "start", start)
    with nothing_left(), pytest.raises(ModelLoadError, match="has changed since"):
        async with running(models.tiny(), tmp_path):
            pytest.fail("the workers were entered")


async def test_a_replacement_survives_errors_that_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        with monkeypatch.context() as patched:

            async def start(*_: object) -> None:
                raise RuntimeError("unforeseen")

            patched.setattr(WorkerProcess, "start", start)
            os.kill(workers.statistics().pids[0], signal.SIGKILL)
            await until(lambda: listener.restarts == 2)
        await listener.until_idle(workers, 1)
        await _answers(workers)
    failure = next(record for record in caplog.records if record.exc_info)
    assert failure.name == "sluice.workers"
    assert failure.exc_info is not None
    assert str(failure.exc_info[1]) == "unforeseen"


async def test_leaving_ends_every_worker_even_if_one_end_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = WorkerProcess.close
    calls = []

    async def close(worker: WorkerProcess) -> int:
        exit_code = await closed(worker)
        calls.append(worker)
        if len(calls) == 1:
            raise RuntimeError("the first")
        return exit_code

    monkeypatch.setattr(WorkerProcess, "close", close)
    with nothing_left(), pytest.raises(RuntimeError, match="the first"):
        async with running(models.linear(), tmp_path, WorkerOptions(count=2, intra_op_threads=1)):
            pass
    assert len(calls) == 2


async def test_a_model_that_does_not_load_in_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")  # has no writer, so that opening it takes for ever
    nothing = Listener()
    options = WorkerOptions(load_timeout_s=0.2)
    workers = Workers(tmp_path / "model.onnx", options, on_vacancy=nothing.on_vacancy, on_restart=nothing.on_restart)
    with nothing_left(), pytest.raises(ModelLoadError, match=r"did not load and warm up within 0\.2 s"):
        async with workers:
            pytest.fail("the workers were entered")


async def test_leaving_ends_a_run_that_does_not_end(tmp_path: Path) -> None:
    with nothing_left():
        async with running(models.loop(), tmp_path) as (workers, _):
            batch = asyncio.create_task(workers.run([ENDLESS], ["y"]))
            await until_in_flight(workers, 1)
        with pytest.raises(WorkerDied, match="was closed"):
            await batch


async def test_leaving_kills_a_worker_that_does_not_end(tmp_path: Path) -> None:
    with nothing_left():
        async with running(models.loop(), tmp_path) as (workers, _):
            os.kill(workers.statistics().pids[0], signal.SIGSTOP)


@pytest.mark.parametrize(
    ("model", "device", "message"),
    [
        (b"not a model", "cpu", r"model\.onnx: .*Protobuf parsing failed"),
        (models.tiny(), "cuda:0", "install onnxruntime-gpu"),
        (models.sequence_output(), "cpu", "output 'y' is a sequence"),
    ],
    ids=["no model", "no GPU", "no tensors"],
)
async def test_a_model_that_cannot_be_loaded_leaves_nothing_running(
    model: bytes, device: str, message: str, tmp_path: Path
) -> None:
    with nothing_left():
        options = WorkerOptions(count=2, device=device, intra_op_threads=1)
        with pytest.raises(ModelLoadError, match=message):
            async with running(model, tmp_path, options):
                pytest.fail("the workers were entered")


async def test_giving_up_while_the_model_loads_leaves_nothing_running(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")  # has no writer, so that opening it takes for ever
    listener = Listener()
    before = len(children())  # a server of other tests may run
    with nothing_left():
        workers = Workers(
            tmp_path / "model.onnx",
            WorkerOptions(count=2),
            on_vacancy=listener.on_vacancy,
            on_restart=listener.on_restart,
        )
        entering = asyncio.create_task(workers.__aenter__())
        await until(lambda: len(children()) == before + 1)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_a_worker_that_dies_while_it_loads_is_told_by_its_end(tmp_path: Path) -> None:
    with nothing_left():
        process, channel = await spawn()
        kill(process)
        with pytest.raises(ModelLoadError, match="was ended by SIGKILL while it loaded the model"):
            await load(process, channel, Load(str(models.place(models.tiny(), tmp_path)), "cpu", PlanTerms(cores=1)))
        channel.close()
        await end(process)


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_end_with_a_gateway_that_is_killed(stopped: bool, tmp_path: Path) -> None:
    model = models.place(models.loop(), tmp_path)
    packages = str(Path(sluice.__file__).parent.parent)
    command = [sys.executable, "-c", GATEWAY, str(model)]
    with subprocess.Popen(command, cwd=packages, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        pids = [int(pid) for pid in gateway.stdout.readline().split()]
        assert len(pids) == 2
        handles = [os.pidfd_open(pid) for pid in pids]
        for pid in pids if stopped else ():
            os.kill(pid, signal.SIGSTOP)
        gateway.kill()
    try:
        for handle in handles:
            ended, _, _ = select.select([handle], [], [], PATIENCE_S)
            assert ended, "a worker outlived its gateway"
    finally:
        for pid, handle in zip(pids, handles, strict=True):
            if not select.select([handle], [], [], 0)[0]:
                os.kill(pid, signal.SIGKILL)
            os.close(handle)


async def test_weights_that_are_written_into_end_the_workers_that_have_them_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(np.array([2, 3], np.float32).tobytes())
    x = (np.ones((1, 1), np.float32),)
    with nothing_left():
        async with running(models.external_weights("w.bin"), tmp_path) as (workers, _):
            told: list[str] = []
            workers.on_overwritten = lambda: told.append("overwritten")
            for other in ([4, 5], [6, 7]):
                weights.write_bytes(np.array(other, np.float32).tobytes())
                await until(lambda: workers.statistics().failing_since_s is not None)
                assert workers.vacancy() == Vacancy(0, 0, 0)
                weights.write_bytes(np.array([2, 3], np.float32).tobytes())
                await until(lambda: workers.vacancy().idle == 1)
                assert (await workers.run([x], ["y"])).outputs[0].tolist() == [[2, 3]]
            assert told == ["overwritten"] * 2
    assert any("w.bin was written into while it was mapped" in record.getMessage() for record in caplog.records)


def copied(file: Path) -> None:
    Path(shutil.copy2(file, file.with_name("copy"))).rename(file)


def touched(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def linked(file: Path) -> None:
    file.symlink_to(file.rename(file.with_name(f"blob of {file.name}")))


@pytest.mark.parametrize("change", [copied, touched, linked])
async def test_equal_files_that_lie_in_another_way_are_loaded_again(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([2, 3], np.float32).tobytes())
    async with running(models.external_weights("w.bin"), tmp_path) as (workers, listener):
        for name in ("w.bin", "model.onnx"):
            change(tmp_path / name)
        os.kill(workers.statistics().pids[0], signal.SIGKILL)
        await until(lambda: listener.restarts == 1)
        await listener.until_idle(workers, 1)
        assert listener.restarts == 1


async def test_a_version_that_gets_no_worker_says_since_when(tmp_path: Path) -> None:
    async with running(models.loop(), tmp_path) as (workers, listener):
        assert workers.statistics().failing_since_s is None
        file = tmp_path / "model.onnx"
        kept = file.rename(tmp_path / "kept.onnx")
        began_s = time.monotonic()
        os.kill(workers.statistics().pids[0], signal.SIGKILL)
        await until(lambda: listener.restarts == 3)
        since_s = workers.statistics().failing_since_s
        assert since_s is not None
        assert began_s <= since_s <= time.monotonic()
        await until(lambda: listener.restarts == 4)
        assert workers.statistics().failing_since_s == since_s, "the first failure counts, and not the last"
        kept.rename(file)
        await listener.until_idle(workers, 1)
        assert workers.statistics().failing_since_s is None
