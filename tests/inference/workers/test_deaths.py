"""The cause of a worker's death, by its exit code, the kernel's count, and other deaths in the same second."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sluice.inference.planning.machine import oom_kills
from sluice.inference.types import Cause
from sluice.inference.workers.deaths import FAULTS, SAME_MOMENT_S, Register


class Kernel:
    """Counts processes that it killed for want of memory."""

    def __init__(self) -> None:
        self.killed = 3

    def count(self) -> int:
        return self.killed


@pytest.fixture(name="kernel")
def _kernel() -> Kernel:
    return Kernel()


@pytest.fixture(name="register")
def _register(kernel: Kernel) -> Register:
    return Register(kernel.count)


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_a_fault_is_the_run_s_own(register: Register, number: signal.Signals) -> None:
    death = register.enter(-number, 0.25, 10.0)
    assert death.cause is Cause.CRASHED
    assert death.how == f"was ended by {number.name}, 0.25 s into a batch"
    assert (death.ran_s, death.beside) == (0.25, 0)


@pytest.mark.parametrize("exit_code", [0, 1, 134])
def test_ending_by_itself_is_a_crash(register: Register, exit_code: int) -> None:
    death = register.enter(exit_code, None, 10.0)
    assert (death.cause, death.how) == (Cause.CRASHED, f"ended with exit code {exit_code}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
def test_other_signals_come_from_outside(register: Register, number: signal.Signals) -> None:
    death = register.enter(-number, None, 10.0)
    assert (death.cause, death.how) == (Cause.KILLED, f"was ended by {number.name} from outside")


def test_an_end_of_which_nothing_is_known_counts_as_from_outside(register: Register) -> None:
    assert register.enter(None, 1.0, 10.0).cause is Cause.KILLED


def test_each_kill_for_want_of_memory_accounts_for_one_death(register: Register, kernel: Kernel) -> None:
    kernel.killed += 2
    causes = [register.enter(-signal.SIGKILL, 1.0, 10.0 + at).cause for at in (0.0, 0.1, 0.2)]
    assert causes == [Cause.OUT_OF_MEMORY, Cause.OUT_OF_MEMORY, Cause.KILLED]


def test_a_crash_is_no_want_of_memory(register: Register, kernel: Kernel) -> None:
    kernel.killed += 1
    assert register.enter(-signal.SIGSEGV, 1.0, 10.0).cause is Cause.CRASHED


def test_a_kill_for_want_of_memory_does_not_account_for_a_later_death(register: Register, kernel: Kernel) -> None:
    kernel.killed += 1
    register.look(10.0)
    assert register.enter(-signal.SIGKILL, 1.0, 10.1 + SAME_MOMENT_S).cause is Cause.KILLED
    kernel.killed += 1
    assert register.enter(-signal.SIGKILL, 1.0, 20.0).cause is Cause.OUT_OF_MEMORY


def test_deaths_in_the_same_second_speak_of_the_machine_where_they_are_alike(register: Register) -> None:
    assert register.enter(-signal.SIGKILL, None, 10.0).beside == 0
    death = register.enter(-signal.SIGKILL, 1.0, 10.5)
    assert death.beside == 1
    assert death.how.endswith("; another worker died so in the same second")
    assert register.enter_killed(Cause.FROZEN, "was killed", 1.0, 10.6).beside == 2
    assert register.enter(-signal.SIGSEGV, 1.0, 10.7).beside == 0, "kills from outside explain no crash"
    assert register.enter(-signal.SIGSEGV, 1.0, 10.8).beside == 0, "neither does another batch that crashes"
    assert register.enter(-signal.SIGSEGV, None, 10.9).beside == 0
    assert register.enter(-signal.SIGSEGV, 1.0, 11.0).beside == 1, "a worker crashed that had nothing to do"
    assert register.enter(-signal.SIGKILL, None, 20.0).beside == 0


def test_the_kernel_s_count_by_control_group(tmp_path: Path) -> None:
    def put(file: str, text: str) -> Path:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
        return tmp_path / file

    groups, vmstat = tmp_path / "fs", put("vmstat", "oom_kill 9\nother 1\n")
    own = put("own", "0::/a/b\n")
    assert oom_kills(own, groups, vmstat) == 9
    put("fs/memory.events", "low 0\noom 7\noom_kill 5\noom_group_kill 0\n")
    assert oom_kills(own, groups, vmstat) == 5, "a container sees its own group at the root"
    put("fs/a/b/memory.events", "oom 7\noom_kill 2\n")
    assert oom_kills(own, groups, vmstat) == 2
    put("fs/memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert oom_kills(put("old", "4:memory:/c\n"), groups, vmstat) == 4
    assert oom_kills(own, tmp_path / "none", tmp_path / "none") == 0
    assert oom_kills() >= 0
