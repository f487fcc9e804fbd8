"""When a user calls next. A closed loop: nobody calls while the answer to the call before has not come."""

from __future__ import annotations


class Pace:
    """A turn every `period_s`, the first one at `first_s`. A turn that an answer came too late for is lost."""

    def __init__(self, period_s: float, first_s: float) -> None:
        self._period_s = period_s
        self._due_s = first_s

    def wait_s(self, now_s: float) -> float:
        """Seconds from now until the next turn, which this takes."""
        self._due_s = max(self._due_s + self._period_s, now_s)
        return self._due_s - now_s
