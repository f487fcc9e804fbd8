"""The table of an overloaded gateway: goodput as a share of what it takes, whatever was before."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.simulation.callers import Heard
from benchmarks.simulation.checks import Check
from benchmarks.simulation.gateway import COSTS, HISTORIES, overload, trial

NAME = "gateway overload"
TIMES = (2.0, 5.0, 20.0)

CONNECTIONS = (64, 250, 400, 500, 700)
"""To answer one request of each takes the gateway 6, 25, 40, 50 and 70 ms; the objective is 50 ms."""

CHECKED = (64, 250, 400)
"""So many connections leave the gateway time to answer all of them, and a fifth of the objective to spare."""

LEAST_PART = 0.9


def overloads() -> tuple[str, list[Check]]:
    """Every history, load and number of connections: a Markdown table, and what is claimed."""
    seen = {
        (connections, history): [overload(trial(history, times, connections)) for times in TIMES]
        for connections in CONNECTIONS
        for history in HISTORIES
    }
    lines = [
        "| connections | before | " + " | ".join([f"{times:g} times" for times in TIMES]) + " | told, at most ms |",
        "| --- | --- | " + " | ".join(["---"] * (len(TIMES) + 1)) + " |",
    ]
    for (connections, history), heard in seen.items():
        cells = [f"{_part(each):.3f}" for each in heard]
        lines.append(f"| {connections} | {history} | {' | '.join(cells)} | {_told_ms(heard)} |")
    made = []
    for (connections, history), heard in seen.items():
        if connections in CHECKED:
            least = min([_part(each) for each in heard])
            what = f"{NAME}, {connections} connections, {history}: goodput / capacity"
            made.append(Check(what, least, LEAST_PART, least >= LEAST_PART))
    return "\n".join(lines), made


def _part(heard: Heard) -> float:
    return heard.good_per_s / COSTS.capacity_per_s


def _told_ms(heard: Sequence[Heard]) -> str:
    told_s = max([each.told_s for each in heard])
    return f"{1e3 * told_s:.0f}" if told_s else ""
