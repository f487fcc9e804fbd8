"""How many users there are at a time. Pure: time is an argument, and every shape ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

MAX_USERS = 10_000
MAX_DURATION_S = 7 * 24 * 3600.0

RAMP_SHARE = 0.05
"""How much of a soak goes by until all its users are there."""


@dataclass(frozen=True, slots=True)
class Load:
    """A load of at most `peak_users`, which ends after `duration_s`. Raises `ValueError` where a bound is passed.

    `steps` matters to the step ramp, `burst_s` (how long users stay, and how long they stay away) to bursts.
    """

    shape: str
    peak_users: int
    duration_s: float
    steps: int = 10
    burst_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what would not end, or never begin."""
        if self.shape not in SHAPES:
            raise ValueError(f"unknown shape {self.shape!r}; there are {', '.join(SHAPES)}")
        for name, value, highest in (
            ("users at the peak", self.peak_users, MAX_USERS),
            ("seconds of duration", self.duration_s, MAX_DURATION_S),
            ("steps", self.steps, MAX_USERS),
            ("seconds in a burst", self.burst_s, MAX_DURATION_S),
        ):
            if not 0 < value <= highest:
                raise ValueError(f"{value} {name}: expected more than 0, at most {highest:g}")

    def users_at(self, elapsed_s: float) -> int | None:
        """Users at this time of the run, at least one; `None` once it is over."""
        if elapsed_s >= self.duration_s:
            return None
        return max(1, min(self.peak_users, SHAPES[self.shape].users_at(self, elapsed_s)))


def _steady(load: Load, elapsed_s: float) -> int:
    return load.peak_users


def _step(load: Load, elapsed_s: float) -> int:
    step = min(int(elapsed_s / load.duration_s * load.steps), load.steps - 1) + 1
    return math.ceil(load.peak_users * step / load.steps)


def _spike(load: Load, elapsed_s: float) -> int:
    in_the_middle = 1 / 3 <= elapsed_s / load.duration_s < 2 / 3
    return load.peak_users if in_the_middle else math.ceil(load.peak_users / 10)


def _bursts(load: Load, elapsed_s: float) -> int:
    return load.peak_users if int(elapsed_s / load.burst_s) % 2 == 0 else 1


def _soak(load: Load, elapsed_s: float) -> int:
    return math.ceil(load.peak_users * elapsed_s / (load.duration_s * RAMP_SHARE))


@dataclass(frozen=True, slots=True)
class Shape:
    """`users_at` may go over or under the bounds: `Load` keeps them. The rest is what holds where nobody says more."""

    users_at: Callable[[Load, float], int]
    peak_users: int
    duration_s: float
    words: str


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "steady": Shape(_steady, 10, 30.0, "the same number of users all along"),
        "step": Shape(_step, 100, 100.0, "more users step by step, to find the capacity"),
        "spike": Shape(_spike, 100, 60.0, "a tenth of the users, all of them in the middle third, a tenth again"),
        "bursts": Shape(_bursts, 50, 60.0, "all users, one user, all users, …"),
        "soak": Shape(_soak, 10, 1800.0, "a slow start, and then the same for long"),
    }
)
