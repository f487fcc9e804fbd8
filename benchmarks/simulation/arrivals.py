"""Who comes when: requests from Poisson processes whose rate changes with time. Seeded; the same for every policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from sluice.inference.types import DEFAULT_PRIORITY

Times: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = Callable[[Times], Times]
"""The load at given times, in multiples of the machine's capacity."""

ONE_ROW: Mapping[int, float] = MappingProxyType({1: 1.0})
HOURS = 24


class Request(msgspec.Struct, frozen=True):
    """One request of a scenario. `index` is its place among all of them, in order of arrival."""

    index: int
    arrived_s: float
    rows: int
    priority: int = DEFAULT_PRIORITY
    client: str = ""


class Stream(msgspec.Struct, frozen=True):
    """Requests of one kind. `sizes` maps rows per request to their share."""

    shape: Shape
    sizes: Mapping[int, float] = ONE_ROW
    priority: int = DEFAULT_PRIORITY
    client: str = ""

    def mean_rows(self) -> float:
        return sum([rows * share for rows, share in self.sizes.items()])


def steady(load: float) -> Shape:
    """The same load all the time."""
    return lambda times: np.full_like(times, load)


def on_off(mean: float, on_load: float = 3.0, on_s: float = 0.1) -> Shape:
    """Bursts of `on_load` for `on_s`, with pauses so long that the load is `mean` on the whole. Pauses come first."""
    period_s = on_s * on_load / mean
    return lambda times: np.where(times % period_s >= period_s - on_s, on_load, 0.0)


def ramp(low: float, high: float, duration_s: float) -> Shape:
    """From `low` up to `high` in the middle, and down again."""
    return lambda times: high - (high - low) * np.abs(2 * times / duration_s - 1)


def day(duration_s: float, seed: int, quiet: float = 0.15, busy: float = 0.85, crowds: int = 6) -> Shape:
    """A day, compressed: a quiet night, a climb to two humps, noise from minute to minute, and flash crowds.

    Synthesised in the likeness of published traces of request rates (the two humps of office hours, correlated noise
    of about a tenth, crowds that come within moments and fade): `crowds` of them add up to twice the capacity.
    """
    random = np.random.default_rng((seed, 0xDA1))
    grid = np.linspace(0.0, duration_s, HOURS * 60)
    hour = grid / duration_s * HOURS
    humps = np.exp(-(((hour - 10.5) / 2.6) ** 2)) + 0.9 * np.exp(-(((hour - 19.5) / 2.4) ** 2))
    load = quiet + (busy - quiet) * np.clip(humps, 0.0, 1.0)
    wobble = np.convolve(random.standard_normal(grid.size + 9), np.full(10, 10**-0.5), "valid")
    load *= np.exp(0.1 * wobble)
    for start_s in np.sort(random.uniform(0.2, 0.95, crowds)) * duration_s:
        since_s = grid - start_s
        fade_s = duration_s / HOURS * random.uniform(0.1, 0.4)
        load += np.where(since_s >= 0, random.uniform(0.8, 2.0) * np.exp(-np.clip(since_s, 0, None) / fade_s), 0.0)
    return lambda times: np.interp(times, grid, load)


def poisson(shape: Shape, rows_per_s: float, mean_rows: float, duration_s: float, seed: Sequence[int]) -> Times:
    """Arrival times of requests whose rows come at `shape` times `rows_per_s`.

    By thinning (Lewis and Shedler, 1979): of a process with the highest rate, each arrival is kept with the share that
    the rate has at its time.
    """
    random = np.random.default_rng(list(seed))
    grid = np.linspace(0.0, duration_s, 100_001)
    peak = float(shape(grid).max())
    expected = peak * rows_per_s / mean_rows * duration_s
    times = np.sort(random.uniform(0.0, duration_s, random.poisson(expected)))
    kept: Times = times[random.random(times.size) * peak < shape(times)]
    return kept


def requests(streams: Sequence[Stream], rows_per_s: float, duration_s: float, seed: int) -> list[Request]:
    """The requests of all streams in order of arrival."""
    merged: list[tuple[float, int, Stream]] = []
    for number, stream in enumerate(streams):
        times = poisson(stream.shape, rows_per_s, stream.mean_rows(), duration_s, (seed, number))
        random = np.random.default_rng([seed, number, 1])
        rows = random.choice(list(stream.sizes), size=times.size, p=list(stream.sizes.values()))
        merged += [(float(at_s), int(count), stream) for at_s, count in zip(times, rows, strict=True)]
    merged.sort(key=lambda each: each[0])
    return [
        Request(index, at_s, rows, stream.priority, stream.client) for index, (at_s, rows, stream) in enumerate(merged)
    ]


def offered_rows_per_s(arrived: Sequence[Request]) -> float:
    """The mean rate from the first arrival to the last; zero for fewer than two."""
    if len(arrived) < 2 or math.isclose(arrived[0].arrived_s, arrived[-1].arrived_s):
        return 0.0
    return sum([request.rows for request in arrived]) / (arrived[-1].arrived_s - arrived[0].arrived_s)
