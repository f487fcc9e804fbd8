"""A run that takes too long is told from a worker that stands still."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sluice.inference.types import Cause
from sluice.inference.workers.run_watch import RunWatch
from sluice.inference.workers.vitals import LOOK_S, STOPPED_LOOKS, Vitals, vitals

FROZEN, TOO_LONG = Cause.FROZEN, Cause.TOO_LONG


class Process:
    """A process whose vitals a test sets."""

    def __init__(self) -> None:
        self.stopped = False
        self.cpu_s = 100.0
        self.gone = False

    def look_at(self, _: int) -> Vitals | None:
        return None if self.gone else Vitals(self.stopped, self.cpu_s)


@pytest.fixture(name="process")
def _process() -> Process:
    return Process()


def play(process: Process, limit_s: float, *, cpu: float, until_s: float = 1000.0) -> tuple[float, Cause | None]:
    """When the watch finds something, and what, for a process that gets this part of a processor."""
    watch = RunWatch(1, process.look_at)
    watch.begin(limit_s, 0.0)
    now_s = 0.0
    while watch.due_s < until_s:
        process.cpu_s += cpu * (watch.due_s - now_s)
        now_s = watch.due_s
        if (found := watch.look(now_s)) is not None:
            return now_s, found[0]
    return until_s, None


@pytest.mark.parametrize("limit_s", [0.05, 0.3, 5.0, 20.0])
def test_a_run_that_computes_has_its_time_and_no_more(process: Process, limit_s: float) -> None:
    assert play(process, limit_s, cpu=1.0) == (limit_s, TOO_LONG)
    assert play(process, limit_s, cpu=0.2) == (limit_s, TOO_LONG), "a crowded machine is no excuse"


@pytest.mark.parametrize("limit_s", [1.5, 5.0, 20.0])
def test_a_run_that_does_not_compute_is_not_shown_to_take_long(process: Process, limit_s: float) -> None:
    assert play(process, limit_s, cpu=0.01) == (limit_s, FROZEN)


def test_a_worker_that_is_stopped_is_found_within_seconds(process: Process) -> None:
    process.stopped = True
    assert play(process, 20.0, cpu=0.0) == (STOPPED_LOOKS * LOOK_S, FROZEN)


def test_a_worker_that_a_profiler_stops_for_a_moment_goes_on(process: Process) -> None:
    watch = RunWatch(1, process.look_at)
    watch.begin(20.0, 0.0)
    for look in range(1, 19):
        process.stopped = look % 2 == 0
        process.cpu_s += 1.0
        assert watch.look(float(look)) is None


def test_a_stopped_worker_did_not_take_long_whatever_it_did_before(process: Process) -> None:
    watch = RunWatch(1, process.look_at)
    watch.begin(2.0, 0.0)
    assert watch.look(1.0) is None
    process.stopped, process.cpu_s = True, process.cpu_s + 1.0
    found = watch.look(2.0)
    assert found is not None
    assert found[0] is FROZEN


def test_a_process_that_is_not_to_be_seen_has_its_limit_all_the_same(process: Process) -> None:
    process.gone = True
    assert play(process, 5.0, cpu=0.0) == (5.0, TOO_LONG)


def test_time_in_which_this_process_stood_still_does_not_count(process: Process) -> None:
    watch = RunWatch(1, process.look_at)
    watch.begin(5.0, 0.0)
    assert watch.look(1.0) is None
    assert watch.look(60.0) is None, "the machine slept, and the worker with it"
    assert 60.0 < watch.due_s <= 61.0
    process.cpu_s += 6.0
    found = [watch.look(60.0 + second) for second in range(1, 8)]
    assert [each[0] for each in found if each is not None][:1] == [TOO_LONG]


def test_it_looks_no_earlier_than_it_is_due(process: Process) -> None:
    watch = RunWatch(1, process.look_at)
    process.stopped = True
    watch.begin(5.0, 0.0)
    assert [watch.look(0.1) for _ in range(10)] == [None] * 10


def test_the_vitals_of_a_real_process() -> None:
    own = vitals(os.getpid())
    assert own is not None
    assert not own.stopped
    assert own.cpu_s > 0.0
    name = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') T 1 (', 0, 0, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as odd:
        assert odd.stdout is not None
        odd.stdout.readline()
        seen = vitals(odd.pid)
        assert seen is not None
        assert not seen.stopped
    assert vitals(odd.pid) is None
