"""When requests are due: schedules that are drawn before a run, whatever the server does."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Independent callers (a Poisson process): the next request is equally likely at any moment."""

    rate_per_s: float


class Bursts(msgspec.Struct, frozen=True, tag="bursts"):
    """Poisson arrivals whose rate jumps: `on_s` seconds at `rate_on_per_s`, `off_s` seconds at `rate_off_per_s`."""

    rate_on_per_s: float
    on_s: float
    off_s: float
    rate_off_per_s: float = 0.0


class RateStep(msgspec.Struct, frozen=True):
    """A number of seconds at one rate."""

    rate_per_s: float
    duration_s: float


class Ramp(msgspec.Struct, frozen=True, tag="ramp"):
    """Poisson arrivals whose rate goes through steps, and stays as in the last one."""

    steps: tuple[RateStep, ...]


Arrivals: TypeAlias = Steady | Poisson | Bursts | Ramp


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
        case Ramp(steps):
            ends = np.minimum(np.cumsum([step.duration_s for step in steps]), duration_s)
            ends[-1] = duration_s
            return _drawn(np.concatenate([[0.0], ends]), np.array([step.rate_per_s for step in steps]), seed)


def rising(first_per_s: float, last_per_s: float, count: int) -> Sequence[float]:
    """The rates of a ramp of `count` steps, evenly from the first to the last."""
    rates: list[float] = np.linspace(first_per_s, last_per_s, count).tolist()
    return rates


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
