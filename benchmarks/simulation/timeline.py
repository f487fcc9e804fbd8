"""How a run went from moment to moment, for a plot. Pure."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.simulation.ledger import Fate, Ledger

Floats = npt.NDArray[np.float64]


class Timeline(msgspec.Struct, frozen=True):
    """Rows per second offered and answered within the objective, and the p99 of the answered, by time of arrival.

    `p99_s` is not a number where nothing was answered.
    """

    at_s: Floats
    offered: Floats
    good: Floats
    p99_s: Floats


def timeline(ledger: Ledger, objective_s: float, from_s: float, to_s: float, step_s: float) -> Timeline:
    """The requests that came between two times, in steps."""
    edges = np.linspace(from_s, to_s, round((to_s - from_s) / step_s) + 1)
    arrived_s = np.array([request.arrived_s for request in ledger.requests])
    rows = np.array([request.rows for request in ledger.requests], dtype=np.float64)
    latency_s = ledger.ended_s() - arrived_s
    answered = ledger.fates() == Fate.ANSWERED
    good = answered & (latency_s <= objective_s)
    place = np.digitize(arrived_s, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    count = len(edges) - 1
    offered = np.bincount(place[inside], rows[inside], count) / step_s
    served = np.bincount(place[inside & good], rows[inside & good], count) / step_s
    p99_s = np.full(count, np.nan)
    for step in range(count):
        here = latency_s[answered & (place == step)]
        if here.size:
            p99_s[step] = np.percentile(here, 99)
    return Timeline((edges[:-1] + edges[1:]) / 2, offered, served, p99_s)
