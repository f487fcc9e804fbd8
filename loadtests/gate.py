"""Pass or fail: what was asked of a run against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.figures import Figures


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked."""

    what: str
    asked: str
    measured: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Objective:
    """What is asked of a run. Ratios are of all calls; `latency_ms` is `None` where no latency was promised."""

    latency_ms: float | None
    percentile: float
    max_failure_ratio: float
    max_refused_ratio: float

    def checks(self, figures: Figures) -> list[Check]:
        """Every check that these figures can be put to. A run in which nothing was answered passes none."""
        checks = [
            Check("calls answered", "> 0", str(figures.answered), figures.answered > 0),
            _ratio("failed", self.max_failure_ratio, figures.failed, figures.requests),
            _ratio("refused", self.max_refused_ratio, figures.refused, figures.requests),
        ]
        if self.latency_ms is not None:
            measured_ms = figures.percentile_ms(self.percentile)
            checks.append(
                Check(
                    f"p{self.percentile:g} of predictions",
                    f"<= {self.latency_ms:g} ms",
                    "none" if measured_ms is None else f"{measured_ms} ms",
                    measured_ms is not None and measured_ms <= self.latency_ms,
                )
            )
        return checks

    def kept(self, figures: Figures) -> bool:
        """Whether every check passes."""
        return all(check.passed for check in self.checks(figures))


def _ratio(what: str, highest: float, count: int, total: int) -> Check:
    ratio = count / total if total else 0.0
    return Check(what, f"<= {highest:.2%}", f"{ratio:.2%} ({count} of {total})", ratio <= highest)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a run. `crashes` are exceptions in the load test itself: with any, its figures are worth nothing."""

    checks: tuple[Check, ...]
    crashes: int

    @property
    def passed(self) -> bool:
        """Whether the process should exit with 0."""
        return not self.crashes and all(check.passed for check in self.checks)

    def text(self) -> str:
        """A table, and the verdict in its last line."""
        lines = [f"{'':24} {'asked':>12}  measured"]
        lines += [
            f"{check.what:24} {check.asked:>12}  {check.measured:28} {'pass' if check.passed else 'FAIL'}"
            for check in self.checks
        ]
        if self.crashes:
            lines.append(f"{self.crashes} exceptions in the load test itself; see Locust's log")
        return "\n".join([*lines, f"gate: {'PASS' if self.passed else 'FAIL'}"])
