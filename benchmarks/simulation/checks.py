"""What is claimed of Sluice in the simulation, held against the scores. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from benchmarks.simulation.rivals import FIXED
from benchmarks.simulation.run import SLUICE
from benchmarks.simulation.scenarios import SCENARIOS
from benchmarks.simulation.score import Score

WITHIN = 0.98
"""Sluice's goodput over that of the best policy of the scenario, at least."""

AHEAD = 1.1
"""Sluice's goodput over that of each fixed setting, on the mean of the bursty scenarios, at least."""


class Check(msgspec.Struct, frozen=True):
    """One claim: what was measured, the bound it was held against, and whether it holds."""

    what: str
    measured: float
    bound: float
    holds: bool


def checks(scores: Sequence[Score]) -> list[Check]:
    """The claims that these scores allow to be checked: those of scenarios with Sluice and with rivals.

    A fixed setting may happen to suit one model, objective and burst; the claim is that none suits all of them.
    """
    table = by_scenario(scores)
    made: list[Check] = []
    for name, by_policy in table.items():
        ours = by_policy.get(SLUICE)
        rivals = [each for policy, each in by_policy.items() if policy != SLUICE]
        if ours is not None and rivals:
            best = max(rivals, key=lambda each: each.goodput)
            made.append(_over(f"{name}: goodput over the best ({best.policy})", [ours], [best], WITHIN))
    bursty = [by_policy for name, by_policy in table.items() if SCENARIOS[name].bursty]
    for setting in FIXED:
        both = [by_policy for by_policy in bursty if SLUICE in by_policy and setting in by_policy]
        if both:
            ours_all, others = [each[SLUICE] for each in both], [each[setting] for each in both]
            made.append(_over(f"{len(both)} bursty scenarios: goodput over {setting}", ours_all, others, AHEAD))
    return made


def by_scenario(scores: Sequence[Score]) -> Mapping[str, Mapping[str, Score]]:
    """The scores by scenario and policy, in their order."""
    table: dict[str, dict[str, Score]] = {}
    for each in scores:
        table.setdefault(each.scenario, {})[each.policy] = each
    return table


def _over(what: str, ours: Sequence[Score], others: Sequence[Score], bound: float) -> Check:
    theirs = sum([each.of_ideal for each in others])
    ratio = sum([each.of_ideal for each in ours]) / theirs if theirs else float("inf")
    return Check(what, ratio, bound, ratio >= bound)
