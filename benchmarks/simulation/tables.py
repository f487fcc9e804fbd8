"""Scores and checks as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.simulation.checks import Check, by_scenario
from benchmarks.simulation.scenarios import SCENARIOS
from benchmarks.simulation.score import Score

COLUMNS = (
    "policy",
    "goodput/s",
    "of offered",
    "of ideal",
    "p50 ms",
    "p99 ms",
    "late",
    "refused",
    "dropped",
    "told after ms",
    "rows/batch",
    "busy",
    "shed precision",
    "clients",
)


def overview(scores: Sequence[Score]) -> str:
    """Goodput as a share of the ideal: a row for each scenario, a column for each policy."""
    table = by_scenario(scores)
    policies = list(dict.fromkeys([each.policy for each in scores]))
    lines = [_row(["scenario", *policies]), _row(["---"] * (len(policies) + 1))]
    for name, by_policy in table.items():
        best = max([each.of_ideal for each in by_policy.values()])
        cells = [_marked(by_policy[policy].of_ideal, best) if policy in by_policy else "" for policy in policies]
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def details(scores: Sequence[Score]) -> str:
    """A table of everything for each scenario."""
    parts: list[str] = []
    for name, by_policy in by_scenario(scores).items():
        scenario = SCENARIOS[name]
        count = next(iter(by_policy.values())).requests
        parts.append(
            f"### {name}\n\n{count:,} requests in {scenario.duration_s:g} s, capacity "
            f"{scenario.machine.rows_per_s():,.0f} rows/s, objective {1e3 * scenario.objective_s:g} ms\n"
        )
        parts.append("\n".join([_row(COLUMNS), _row(["---"] * len(COLUMNS)), *map(_score, by_policy.values())]) + "\n")
    return "\n".join(parts)


def verdicts(made: Iterable[Check]) -> str:
    """The checks."""
    lines = [_row(["claim", "measured", "bound", ""]), _row(["---"] * 4)]
    lines += [
        _row([check.what, f"{check.measured:.3f}", f"≥ {check.bound:g}", "holds" if check.holds else "**missed**"])
        for check in made
    ]
    return "\n".join(lines)


def _score(each: Score) -> str:
    shares = (each.of_offered, each.of_ideal)
    fates = (each.late, each.refused, each.dropped)
    return _row(
        [
            each.policy,
            f"{each.goodput:,.0f}",
            *[f"{share:.3f}" for share in shares],
            _ms(each.p50_s),
            _ms(each.p99_s),
            *[f"{share:.3f}" for share in fates],
            _ms(each.told_s),
            f"{each.batch_rows:.1f}",
            f"{each.busy:.2f}",
            f"{each.shed_precision:.3f}",
            ", ".join([f"{client} {share:.2f}" for client, share in each.by_client.items()]),
        ]
    )


def _ms(value_s: float | None) -> str:
    return "" if value_s is None else f"{1e3 * value_s:.1f}"


def _marked(value: float, best: float) -> str:
    return f"**{value:.3f}**" if value >= best - 5e-4 else f"{value:.3f}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
