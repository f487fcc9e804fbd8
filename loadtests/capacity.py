"""The step ramp's result: how each step went, and the last one that the service could take."""

from __future__ import annotations

from dataclasses import dataclass, field

from loadtests.figures import Figures
from loadtests.gate import Objective


@dataclass(frozen=True, slots=True)
class Step:
    """One number of users, and what was measured while there were so many."""

    users: int
    seconds: float
    figures: Figures

    @property
    def answered_per_s(self) -> float:
        """Calls answered per second."""
        return self.figures.answered / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Ramp:
    """Cuts a run into steps: `see` is told the time, the users wanted and the figures so far.

    Bounded by the number of changes of a shape, which is at most one a second.
    """

    steps: list[Step] = field(default_factory=list)
    _users: int | None = None
    _begun_s: float = 0.0
    _before: Figures = field(default_factory=Figures)

    def see(self, now_s: float, users: int | None, figures: Figures) -> None:
        """`users` is `None` at the end of the run."""
        if users == self._users:
            return
        if self._users is not None:
            self.steps.append(Step(self._users, now_s - self._begun_s, figures.since(self._before)))
        self._users, self._begun_s, self._before = users, now_s, figures

    def capacity(self, objective: Objective) -> Step | None:
        """The last step before the first that did not keep the objective; `None` if that was the first of all."""
        last = None
        for step in self.steps:
            if not objective.kept(step.figures):
                break
            last = step
        return last

    def text(self, objective: Objective) -> str:
        """A table of the steps, and the capacity."""
        percentile = f"p{objective.percentile:g} ms"
        lines = [f"{'users':>6} {'answered/s':>11} {'failed':>7} {'refused':>8} {percentile:>9}"]
        for step in self.steps:
            seen, time_ms = step.figures, step.figures.percentile_ms(objective.percentile)
            lines.append(
                f"{step.users:6} {step.answered_per_s:11.1f} {seen.failed:7} {seen.refused:8} "
                f"{'-' if time_ms is None else time_ms:>9}  {'kept' if objective.kept(seen) else 'MISSED'}"
            )
        best = self.capacity(objective)
        found = "below the first step" if best is None else f"{best.answered_per_s:.1f} answers/s ({best.users} users)"
        more = " or more: every step was kept" if best is not None and best is self.steps[-1] else ""
        return "\n".join([*lines, f"capacity: {found}{more}"])
