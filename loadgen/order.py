"""The load that a run is to offer, and the schedule and windows that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from sluice.inference.errors import StartError
from sluice.loadgen.arrivals import Arrivals, Bursts, Poisson, Ramp, RateStep, Steady, rising
from sluice.loadgen.figures import CountedWindow

MOST_REQUESTS = 5_000_000
"""The most requests of a run: each is kept, at about 100 bytes."""


class Pattern(StrEnum):
    """How arrivals are spread in time."""

    POISSON = "poisson"
    CONSTANT = "constant"
    BURSTS = "bursts"
    RAMP = "ramp"


class LoadOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The load, and what is expected of the server.

    The run lasts `warm_up_s + duration_s`. `rate_per_s` is the mean, and that of the first step of a ramp, which rises
    to `to_rate_per_s` in `steps` equal parts of `duration_s`. Bursts last `burst_s`, with silence of `gap_s` between
    them. A request is given up `timeout_s` after it was due. Of those offered, `min_goodput` is the part to be answered
    within `objective_ms`.
    """

    pattern: Pattern = Pattern.POISSON
    rate_per_s: float
    to_rate_per_s: float | None = None
    steps: int = 10
    burst_s: float = 0.5
    gap_s: float = 0.5
    duration_s: float = 10.0
    warm_up_s: float = 1.0
    connections: int = 256
    timeout_s: float = 10.0
    seed: int = 0
    objective_ms: float | None = None
    min_goodput: float = 0.99

    @property
    def length_s(self) -> float:
        """The length of the whole run, warm-up included, in seconds."""
        return self.warm_up_s + self.duration_s

    def window(self) -> CountedWindow:
        """The part that counts."""
        return CountedWindow(self.warm_up_s, self.length_s)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is called, how, and with which load.

    With `model`, `url` is the server's and the bodies are random, `distinct` of them, unless there are `body_files`;
    else it is what is called. `headers` are lines.
    """

    url: str
    load: LoadOrder
    model: str | None = None
    body_files: tuple[Path, ...] = ()
    rows: int = 1
    length: int = 16
    distinct: int = 16
    headers: tuple[str, ...] = ()
    cache: bool = False
    ca_file: Path | None = None
    insecure: bool = False


def checked(load: LoadOrder) -> LoadOrder:
    """The same load. Raises `StartError` for one that contradicts itself or is too much to be kept."""
    ramp = load.pattern is Pattern.RAMP
    if ramp and (load.to_rate_per_s is None or load.to_rate_per_s <= load.rate_per_s):
        raise StartError("--pattern ramp rises from --rate to --to-rate, which must be given and be higher")
    if ramp and load.objective_ms is None:
        raise StartError("--pattern ramp looks for the load at which an objective is kept: give --objective-ms")
    if not ramp and load.to_rate_per_s is not None:
        raise StartError("--to-rate is for --pattern ramp")
    mean_per_s = load.rate_per_s if load.to_rate_per_s is None else (load.rate_per_s + load.to_rate_per_s) / 2
    expected = mean_per_s * load.length_s
    if expected > MOST_REQUESTS:
        raise StartError(f"that is {expected:,.0f} requests; every one is kept, and {MOST_REQUESTS:,} is the most")
    if mean_per_s * load.duration_s < 1:
        raise StartError("not one request is to be expected of so low a rate in so short a time")
    return load


def arrivals(load: LoadOrder) -> Arrivals:
    """The schedule of the whole run."""
    match load.pattern:
        case Pattern.CONSTANT:
            return Steady(load.rate_per_s)
        case Pattern.BURSTS:
            return Bursts(load.rate_per_s * (load.burst_s + load.gap_s) / load.burst_s, load.burst_s, load.gap_s)
        case Pattern.RAMP:
            return Ramp((RateStep(load.rate_per_s, load.warm_up_s), *steps(load)))
        case Pattern.POISSON:
            return Poisson(load.rate_per_s)


def steps(load: LoadOrder) -> Sequence[RateStep]:
    """Those of a ramp, after the warm-up; none of other patterns."""
    if load.to_rate_per_s is None:
        return ()
    step_s = load.duration_s / load.steps
    return [RateStep(rate_per_s, step_s) for rate_per_s in rising(load.rate_per_s, load.to_rate_per_s, load.steps)]


def step_windows(load: LoadOrder) -> Sequence[tuple[RateStep, CountedWindow]]:
    """Each step of a ramp with the part of the run in which it is offered."""
    begin_s = load.warm_up_s
    return [
        (step, CountedWindow(begin_s + number * step.duration_s, begin_s + (number + 1) * step.duration_s))
        for number, step in enumerate(steps(load))
    ]
