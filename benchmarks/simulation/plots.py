"""The plots of `docs/batching.md`. matplotlib is imported here alone, and only when something is to be plotted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.simulation.checks import by_scenario
from benchmarks.simulation.rivals import FIXED
from benchmarks.simulation.run import POLICIES, SLUICE, simulate
from benchmarks.simulation.scenarios import SCENARIOS, Scenario
from benchmarks.simulation.score import Score
from benchmarks.simulation.timeline import timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "svg.hashsalt": "sluice",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
COLOURS = {
    SLUICE: "#0b6e4f",
    "deferred": "#c25b12",
    "early drop": "#e0a458",
    "regression": "#6a4c93",
    "AIMD": "#999999",
    "fixed": "#3a6ea5",
}
BURST, BURST_FROM_S, BURST_TO_S, BURST_STEP_S = "mlp bursts 1.0", 2.0, 3.2, 0.01
LOADS = ("mlp 0.5", "mlp 0.9", "mlp 1.2", "mlp 2.0")


def draw(scores: Sequence[Score], seed: int, folder: Path) -> list[Path]:
    """Write what these scores allow to be drawn, as SVG, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update(STYLE)  # type: ignore[arg-type] # it wants the names as literals
    table = by_scenario(scores)
    figures = {"goodput.svg": _goodput(scores)}
    if BURST in table and SLUICE in table[BURST]:
        fixed = [each for each in table[BURST].values() if each.policy in FIXED]
        if fixed:
            best = max(fixed, key=lambda each: each.goodput).policy
            figures["burst.svg"] = _burst(SCENARIOS[BURST], (SLUICE, best), seed)
    if all([name in table for name in LOADS]):
        figures["overload.svg"] = _overload(scores)
    files: list[Path] = []
    for name, figure in figures.items():
        files.append(folder / name)
        figure.savefig(files[-1], metadata={"Date": None})
    return files


def _goodput(scores: Sequence[Score]) -> Figure:
    """Goodput over the ideal: a dot for each policy in each scenario, the fixed settings in one colour."""
    table = by_scenario(scores)
    figure = Figure(figsize=(7.2, 0.8 + 0.17 * len(table)), layout="constrained")
    axes = figure.subplots()
    seen: set[str] = set()
    for place, by_policy in enumerate(table.values()):
        for policy, each in reversed([*by_policy.items()]):
            kind = "fixed" if policy in FIXED else policy
            axes.plot(
                each.of_ideal,
                place,
                marker="D" if policy == SLUICE else "|" if kind == "fixed" else "o",
                markersize=6 if policy == SLUICE else 4 if kind != "fixed" else 7,
                linestyle="none",
                color=COLOURS[kind],
                label=None if kind in seen else "fixed settings" if kind == "fixed" else kind,
                zorder=3 if policy == SLUICE else 2,
            )
            seen.add(kind)
    axes.set_yticks(range(len(table)), list(table))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("goodput, as a share of what the fluid server answers in time")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0 + 1.2 / (3 + len(table))), ncols=6)
    return figure


def _burst(scenario: Scenario, policies: Sequence[str], seed: int) -> Figure:
    """A second of bursts: what came, what was answered in time, and how long the slowest waited."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    requests = scenario.requests(seed)
    for policy in policies:
        ledger, _ = simulate(POLICIES[policy], scenario, requests, seed)
        line = timeline(ledger, scenario.objective_s, BURST_FROM_S, BURST_TO_S, BURST_STEP_S)
        colour = COLOURS["fixed" if policy in FIXED else policy]
        if policy == policies[0]:
            above.fill_between(line.at_s, line.offered / 1e3, step="mid", color="#dddddd", label="offered")
        above.step(line.at_s, line.good / 1e3, where="mid", color=colour, label=f"{policy}: in time")
        below.plot(line.at_s, 1e3 * line.p99_s, ".", markersize=4, color=colour, label=f"{policy}: p99")
    _title(above, "1,000 rows/s")
    below.axhline(1e3 * scenario.objective_s, color="black", linewidth=0.8, linestyle="--", label="objective")
    _title(below, "ms")
    below.set_ylim(bottom=0)
    below.set_xlabel("s")
    return figure


def _overload(scores: Sequence[Score]) -> Figure:
    """Goodput as the load grows beyond what the worker can do."""
    table = by_scenario(scores)
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    loads = [float(name.split()[-1]) for name in LOADS]
    capacity = SCENARIOS[LOADS[0]].machine.rows_per_s()
    for policy in reversed(list(table[LOADS[0]])):
        values = [table[name][policy].goodput / capacity if policy in table[name] else np.nan for name in LOADS]
        kind = "fixed" if policy in FIXED else policy
        width, shade = (2.2, 1.0) if policy == SLUICE else (1.0, 0.5 if kind == "fixed" else 1.0)
        label = policy if kind != "fixed" else "fixed settings" if policy == next(iter(FIXED)) else None
        axes.plot(loads, values, color=COLOURS[kind], linewidth=width, alpha=shade, label=label)
    axes.set_xlabel("offered, in multiples of the capacity")
    axes.set_ylabel("goodput / capacity")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_ylabel(text)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
