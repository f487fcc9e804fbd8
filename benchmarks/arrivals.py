"""When requests are to be sent: schedules that are drawn before a run, and know nothing of how the server does."""

from __future__ import annotations

from itertools import cycle, takewhile
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Times: TypeAlias = npt.NDArray[np.float64]
"""Rising seconds from the beginning of a run."""


class Steady(msgspec.Struct, frozen=True, tag="steady"):
    """One request every `1 / rate_per_s` seconds."""

    rate_per_s: float


class Poisson(msgspec.Struct, frozen=True, tag="poisson"):
    """Callers that know nothing of each other: the next request comes at any moment with the same chance."""

    rate_per_s: float


class Bursts(msgspec.Struct, frozen=True, tag="bursts"):
    """Poisson arrivals whose rate jumps: `on_s` seconds at `rate_on_per_s`, `off_s` seconds at `rate_off_per_s`."""

    rate_on_per_s: float
    on_s: float
    off_s: float
    rate_off_per_s: float = 0.0


Arrivals: TypeAlias = Steady | Poisson | Bursts


def times(arrivals: Arrivals, duration_s: float, seed: int) -> Times:
    """The times of all requests within `duration_s`. The same seed gives the same times."""
    match arrivals:
        case Steady(rate_per_s):
            return np.arange(0, duration_s * rate_per_s) / rate_per_s
        case Poisson(rate_per_s):
            return _drawn(np.array([0, duration_s]), np.array([rate_per_s]), seed)
        case Bursts(rate_on_per_s, on_s, off_s, rate_off_per_s):
            edges = _edges(on_s, off_s, duration_s)
            rates = np.where(np.arange(len(edges) - 1) % 2 == 0, rate_on_per_s, rate_off_per_s)
            return _drawn(edges, rates, seed)


def attainable(intended: Times, capacity_per_s: float, objective_s: float) -> Times:
    """When a server that answers one request every `1 / capacity_per_s` seconds gives its answers, if it errs never.

    It answers in order, refuses exactly those that it could not answer in time, and refusing costs it nothing. For
    requests of one size and one objective, nothing answers more of them in time. What bursts leave attainable is less
    than the capacity: nobody can work on requests that have not come yet.
    """
    answered: list[float] = []
    free_s = 0.0
    for at_s in intended.tolist():
        done_s = max(at_s, free_s) + 1 / capacity_per_s
        if done_s <= at_s + objective_s:
            answered.append(done_s)
            free_s = done_s
    return np.array(answered)


def _edges(on_s: float, off_s: float, duration_s: float) -> Times:
    edges = [0.0]
    for phase_s in takewhile(lambda _: edges[-1] < duration_s, cycle((on_s, off_s))):
        edges.append(min(duration_s, edges[-1] + phase_s))
    return np.array(edges)


def _drawn(edges: Times, rates_per_s: Times, seed: int) -> Times:
    """Arrivals of a Poisson process whose rate is constant between two edges.

    Arrivals at rate 1 are drawn and mapped through the inverse of the expected count (Çinlar, Introduction to
    Stochastic Processes, 1975: inversion).
    """
    expected = np.concatenate([[0], np.cumsum(np.diff(edges) * rates_per_s)])
    most = int(expected[-1] + 10 * np.sqrt(expected[-1]) + 20)
    drawn = np.cumsum(np.random.default_rng(seed).exponential(size=most))
    arrived_s: Times = np.interp(drawn[drawn < expected[-1]], expected, edges)
    return arrived_s
