"""Small scripted runs of policies: a machine without noise, a few requests, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.simulation.arrivals import Request, Stream, steady
from benchmarks.simulation.ledger import Fate, Ledger
from benchmarks.simulation.machine import Curve, Machine, Noise
from benchmarks.simulation.policy import PolicyFactory
from benchmarks.simulation.run import simulate
from benchmarks.simulation.scenarios import Scenario
from benchmarks.simulation.server import Ran

SILENT = Noise(sigma=0.0, outlier_share=0.0)
PLAIN = Machine(Curve(0.010, 0.001), max_rows=32, noise=SILENT, transit_s=0.0)
"""10 ms for a batch and 1 ms for each row, exactly."""

OBJECTIVE_S = 0.1


class Played(msgspec.Struct, frozen=True):
    """The books of a scripted run, and its batches in the order in which they began."""

    ledger: Ledger
    batches: Sequence[Ran]

    def fates(self) -> list[Fate]:
        return [Fate(fate) for fate in self.ledger.fates()]

    def sizes(self) -> list[int]:
        return [batch.rows for batch in self.batches]

    def starts_ms(self) -> list[float]:
        return [round(1e3 * batch.started_s, 3) for batch in self.batches]


def play(
    factory: PolicyFactory,
    *arrivals: tuple[float, int],
    machine: Machine = PLAIN,
    objective_s: float = OBJECTIVE_S,
) -> Played:
    """Requests at so many milliseconds, with so many rows each."""
    requests = [Request(index, at_ms / 1e3, rows) for index, (at_ms, rows) in enumerate(arrivals)]
    ledger, ran = simulate(factory, scenario(machine, objective_s), requests, seed=1)
    return Played(ledger, sorted(ran, key=lambda batch: batch.started_s))


def scenario(machine: Machine = PLAIN, objective_s: float = OBJECTIVE_S, duration_s: float = 1.0) -> Scenario:
    return Scenario("scripted", machine, objective_s, duration_s, (Stream(steady(1.0)),))
