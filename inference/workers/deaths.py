"""The cause of a worker's death, told from how its process ended and from what else happened at that time."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable

from sluice.inference.planning.machine import oom_kills
from sluice.inference.types import Cause, Death

SAME_MOMENT_S = 1.0
"""Deaths that are at most so far apart count as simultaneous."""

FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
)
"""Signals that the kernel raises for something that the process itself did."""

_ALIKE = {
    Cause.KILLED: {Cause.KILLED, Cause.FROZEN},
    Cause.FROZEN: {Cause.KILLED, Cause.FROZEN},
    Cause.OUT_OF_MEMORY: {Cause.OUT_OF_MEMORY, Cause.KILLED},
}
"""For each cause, the causes of simultaneous deaths that point to the machine, whatever the workers ran. For any other
cause, only deaths of idle workers by the same cause do."""


class Register:
    """Tells the causes of all workers' deaths in this gateway, of any model. Does no I/O but `count`.

    `count` reads the kernel's number of processes that it killed because memory ran out. When that number grows by one,
    one death by SIGKILL within `SAME_MOMENT_S` is `OUT_OF_MEMORY`. Keeps the deaths of the last `SAME_MOMENT_S` only.
    `now_s` is on the monotonic clock.
    """

    def __init__(self, count: Callable[[], int] = oom_kills) -> None:
        self._count = count
        self._counted = count()
        self._unexplained = 0
        self._seen_s = 0.0
        self._lately: deque[tuple[float, Death]] = deque()

    def look(self, now_s: float) -> None:
        """Reads the kernel's count now, so that an earlier kill does not explain a much later death."""
        counted = self._count()
        if counted > self._counted:
            self._unexplained += counted - self._counted
            self._seen_s = now_s
        elif now_s - self._seen_s > SAME_MOMENT_S:
            self._unexplained = 0
        self._counted = counted

    def enter(self, exit_code: int | None, ran_s: float | None, now_s: float) -> Death:
        """Registers a worker that the gateway did not kill. `exit_code` is `None` if it is not known in time."""
        cause, how = self._told_by(exit_code, now_s)
        return self._entered(cause, how if ran_s is None else f"{how}, {ran_s:.3g} s into a batch", ran_s, now_s)

    def enter_killed(self, cause: Cause, how: str, ran_s: float | None, now_s: float) -> Death:
        """Registers a worker that the gateway killed for this cause."""
        return self._entered(cause, how, ran_s, now_s)

    def _told_by(self, exit_code: int | None, now_s: float) -> tuple[Cause, str]:
        if exit_code is None:
            return Cause.KILLED, "ended in an unknown way"
        if exit_code >= 0:
            return Cause.CRASHED, how_it_ended(exit_code)
        if -exit_code in FAULTS:
            return Cause.CRASHED, how_it_ended(exit_code)
        if -exit_code == signal.SIGKILL:
            self.look(now_s)
            if self._unexplained:
                self._unexplained -= 1
                return Cause.OUT_OF_MEMORY, f"{how_it_ended(exit_code)} for want of memory"
        return Cause.KILLED, f"{how_it_ended(exit_code)} from outside"

    def _entered(self, cause: Cause, how: str, ran_s: float | None, now_s: float) -> Death:
        while self._lately and now_s - self._lately[0][0] > SAME_MOMENT_S:
            self._lately.popleft()
        beside = len([1 for _, other in self._lately if _is_alike(cause, other)])
        if beside:
            how = f"{how}; {'another worker' if beside == 1 else f'{beside} other workers'} died so in the same second"
        death = Death(cause, how, ran_s, beside)
        self._lately.append((now_s, death))
        return death


def _is_alike(cause: Cause, other: Death) -> bool:
    """Whether the other death suggests that the machine may be the reason for a death by this cause."""
    return other.cause in _ALIKE[cause] if cause in _ALIKE else other.cause is cause and other.ran_s is None


def how_it_ended(exit_code: int) -> str:
    """Plain words for an exit code as `asyncio.subprocess.Process` has it."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


REGISTER = Register()
"""One for the whole gateway: deaths of several models' workers at once can only be seen together."""
