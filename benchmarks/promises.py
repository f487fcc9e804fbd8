"""What runs under load add up to: medians of those that may be believed, and whether the promise was kept."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from benchmarks.scenarios import Check, at_least, at_most
from sluice.loadgen.figures import Figures, Spread


class Kept(msgspec.Struct, frozen=True):
    """One open-loop run beside the capacity around it. `late` is the server's own count.

    `faults` says why the run must not be believed; empty if it may.
    """

    seen: Figures
    faults: tuple[str, ...]
    capacity_per_s: float
    attainable_per_s: float
    cpu_s_per_1000: float
    late: float


class Setting(msgspec.Struct, frozen=True):
    """What is compared."""

    load: float
    pattern: str
    server: str


Figure: TypeAlias = Callable[[Kept], float | None]
"""One number of a run; `None` where the run has none."""


def _p50_ms(spread: Spread | None) -> float | None:
    return None if spread is None else spread.p50_ms


def _p99_ms(spread: Spread | None) -> float | None:
    return None if spread is None else spread.p99_ms


def goodput_share(run: Kept) -> float:
    """Goodput over capacity."""
    return run.seen.goodput_per_s / run.capacity_per_s


def ok_p99_ms(run: Kept) -> float | None:
    """Of the accepted."""
    return _p99_ms(run.seen.ok)


def refused_p50_ms(run: Kept) -> float | None:
    """Of the refused."""
    return _p50_ms(run.seen.refused)


FIGURES: Mapping[str, Figure] = {
    "offered/s": lambda run: run.seen.offered_per_s,
    "goodput/s": lambda run: run.seen.goodput_per_s,
    "goodput / capacity": goodput_share,
    "attainable / capacity": lambda run: run.attainable_per_s / run.capacity_per_s,
    "refused": lambda run: run.seen.refused_share,
    "accepted in time": lambda run: run.seen.goodput_per_s / run.seen.ok_per_s if run.seen.ok_per_s else None,
    "accepted p50 ms": lambda run: _p50_ms(run.seen.ok),
    "accepted p99 ms": ok_p99_ms,
    "refused p50 ms": refused_p50_ms,
    "refused p99 ms": lambda run: _p99_ms(run.seen.refused),
    "CPU s / 1000": lambda run: run.cpu_s_per_1000,
    "late, says the server": lambda run: run.late,
    "generator lag p99 ms": lambda run: _p99_ms(run.seen.lag),
}
HEADINGS = ("load", "arrivals", "server", *FIGURES, "valid runs")


class Row:
    """The runs of one setting. Those with faults are left out of all figures, and of nothing else."""

    def __init__(self, runs: Sequence[Kept]) -> None:
        self.valid = [run for run in runs if not run.faults]
        self.valid_share = len(self.valid) / len(runs)
        self._runs = len(runs)

    def median(self, figure: Figure) -> float:
        """Of the runs that have this figure; NaN if there are none, which no bound holds for."""
        figures = [value for run in self.valid if (value := figure(run)) is not None]
        return statistics.median(figures) if figures else math.nan

    def cells(self) -> list[str | float]:
        """What stands under `HEADINGS`, after the setting."""
        medians = [self.median(figure) for figure in FIGURES.values()]
        return [*["" if math.isnan(each) else each for each in medians], f"{len(self.valid)} of {self._runs}"]


def checks(rows: Mapping[Setting, Row], server: str, objective_ms: float) -> Iterator[Check]:
    """Whether this server kept the promise: at the highest load, and for every one in what it accepted."""
    for pattern in dict.fromkeys([setting.pattern for setting in rows]):
        loads = {each.load: row for each, row in rows.items() if (each.pattern, each.server) == (pattern, server)}
        most = max(loads)
        goodput = loads[most].median(goodput_share)
        worst_ms = float(np.max([row.median(ok_p99_ms) for row in loads.values()]))
        refused_ms = loads[most].median(refused_p50_ms)
        yield at_least(f"{pattern}: goodput at {most:g} times capacity over capacity", goodput, 0.9)
        yield at_most(
            f"{pattern}: p99 of the accepted over the objective, at the worst load", worst_ms / objective_ms, 1.2
        )
        yield at_most(f"{pattern}: median refusal at {most:g} times capacity, ms", refused_ms, 5)
    kept_up = statistics.mean([row.valid_share for row in rows.values()])
    yield at_least("share of the runs in which the generator kept up", kept_up, 0.8)
