"""What workers die of: a death told from how the process ended and from what else happened then."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable

from sluice.inference.planning.machine import oom_kills
from sluice.inference.types import Cause, Death

SAME_MOMENT_S = 1.0
"""Deaths within so long of each other are taken together."""

FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
)
"""Signals that the kernel raises for what a process does itself."""

_ALIKE = {
    Cause.KILLED: {Cause.KILLED, Cause.FROZEN},
    Cause.FROZEN: {Cause.KILLED, Cause.FROZEN},
    Cause.OUT_OF_MEMORY: {Cause.OUT_OF_MEMORY, Cause.KILLED},
}
"""Deaths that tell of the machine where several come at once, whatever ran. Other causes do so only in idle workers."""


class Register:
    """All deaths of this process' workers, of whatever model. Pure but for `count`, which reads the kernel's count.

    A SIGKILL that the kernel's count of processes killed for want of memory accounts for is `OUT_OF_MEMORY`; each one
    that it counts accounts for one death, within `SAME_MOMENT_S` of when it is seen. Keeps the deaths of the last
    `SAME_MOMENT_S` only. `now_s` is monotonic time.
    """

    def __init__(self, count: Callable[[], int] = oom_kills) -> None:
        self._count = count
        self._counted = count()
        self._unexplained = 0
        self._seen_s = 0.0
        self._lately: deque[tuple[float, Death]] = deque()

    def look(self, now_s: float) -> None:
        """Take in what was counted until now, so that it does not account for a death that comes much later."""
        counted = self._count()
        if counted > self._counted:
            self._unexplained += counted - self._counted
            self._seen_s = now_s
        elif now_s - self._seen_s > SAME_MOMENT_S:
            self._unexplained = 0
        self._counted = counted

    def enter(self, exit_code: int | None, ran_s: float | None, now_s: float) -> Death:
        """A worker that the gateway did not kill has ended. `exit_code` is `None` where it is not known in time."""
        cause, how = self._told_by(exit_code, now_s)
        return self._entered(cause, how if ran_s is None else f"{how}, {ran_s:.3g} s into a batch", ran_s, now_s)

    def enter_killed(self, cause: Cause, how: str, ran_s: float | None, now_s: float) -> Death:
        """The gateway has killed a worker for this cause."""
        return self._entered(cause, how, ran_s, now_s)

    def _told_by(self, exit_code: int | None, now_s: float) -> tuple[Cause, str]:
        if exit_code is None:
            return Cause.KILLED, "ended, nobody knows how"
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
    """Whether the other death says that the machine may be behind one of this cause."""
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
"""One for the process, as the machine is: what befalls the workers of all models at once, no model sees alone."""
