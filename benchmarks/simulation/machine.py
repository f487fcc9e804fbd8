"""How long batches run: a service curve, and what a real machine adds to it."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import numpy as np
import numpy.typing as npt

Factors = npt.NDArray[np.float64]

QUANTILE_DRAWS = 200_000


class Curve(msgspec.Struct, frozen=True):
    """The run time of a batch without noise: `base_s` for the batch and `row_s` for each of its rows."""

    base_s: float
    row_s: float

    def run_s(self, rows: int) -> float:
        return self.base_s + self.row_s * rows


class Slowdown(msgspec.Struct, frozen=True):
    """Batches that begin from `start_s` to `end_s` take `factor` times as long: a throttled CPU, a neighbour."""

    start_s: float
    end_s: float
    factor: float


class Noise(msgspec.Struct, frozen=True):
    """What run times are multiplied by: log-normal jitter, and an outlier now and then.

    `sigma` is the standard deviation of the logarithm. `outlier_share` of the batches take `outlier_factor` times as
    long on top. The factor of the n-th batch depends on the seed and on n alone, not on the policy that formed it.
    """

    sigma: float = 0.04
    outlier_share: float = 0.003
    outlier_factor: float = 3.0
    slowdowns: tuple[Slowdown, ...] = ()

    def factors(self, seed: int, count: int) -> Factors:
        """Factors for the first `count` batches, without the slowdowns."""
        jitter = np.exp(self.sigma * np.random.default_rng((seed, 1)).standard_normal(count))
        outliers = np.random.default_rng((seed, 2)).random(count) < self.outlier_share
        return np.where(outliers, self.outlier_factor, 1.0) * jitter

    def mean(self) -> float:
        """The expected factor, without the slowdowns."""
        return math.exp(self.sigma**2 / 2) * (1 + self.outlier_share * (self.outlier_factor - 1))

    def p95(self) -> float:
        """The factor that 95 % of the batches stay below, without the slowdowns."""
        return _p95(self)

    def slowed(self, now_s: float) -> float:
        """The factor of the slowdowns at one moment."""
        for slowdown in self.slowdowns:
            if slowdown.start_s <= now_s < slowdown.end_s:
                return slowdown.factor
        return 1.0


class Machine(msgspec.Struct, frozen=True):
    """A model on its workers. `transit_s` is the way to a worker and back, hidden where a batch waits behind another.

    `max_rows` is the largest batch of the model.
    """

    curve: Curve
    max_rows: int
    workers: int = 1
    noise: Noise = Noise()
    transit_s: float = 0.0002

    def rows_per_s(self) -> float:
        """What the workers can do together with full batches and no pauses, outside slowdowns."""
        return self.workers * self.max_rows / (self.curve.run_s(self.max_rows) * self.noise.mean())

    def p95_run_s(self, rows: int) -> float:
        """The run time that 95 % of the batches of so many rows stay below: what profiling would have found."""
        return self.curve.run_s(rows) * self.noise.p95()


@cache
def _p95(noise: Noise) -> float:
    return float(np.quantile(noise.factors(0, QUANTILE_DRAWS), 0.95))
