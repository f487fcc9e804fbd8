"""Which row is asked for next: a few are popular, most are rare."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from random import Random

import numpy as np


class Zipf:
    """Ranks 0 to `distinct_rows` - 1, where rank k comes up with a probability in proportion to 1 / (k + 1)^exponent.

    An exponent of 0 makes all of them equally likely. What the web's requests follow lies between 0.6 and 1 (Breslau et
    al., "Web Caching and Zipf-like Distributions", INFOCOM 1999).
    """

    def __init__(self, distinct_rows: int, exponent: float) -> None:
        if distinct_rows < 1 or exponent < 0:
            raise ValueError(f"expected rows >= 1 and an exponent >= 0, got {distinct_rows} rows, {exponent}")
        shares = np.arange(1, distinct_rows + 1, dtype=np.float64) ** -exponent
        self._cumulated: list[float] = np.cumsum(shares / shares.sum()).tolist()

    def draw(self, random: Random) -> int:
        """The next rank."""
        # Rounding may leave the last sum a little under 1.
        return min(bisect_right(self._cumulated, random.random()), len(self._cumulated) - 1)


@lru_cache(maxsize=4)
def shared(distinct_rows: int, exponent: float) -> Zipf:
    """One table for all users of a run: with a million rows it takes megabytes."""
    return Zipf(distinct_rows, exponent)
