"""The latency curves of one model version, by key. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sluice.batching.curve import LatencyCurve
from sluice.batching.job import Key
from sluice.inference.types import Knot

MAX_CURVES = 256
"""The most curves kept, since callers choose the keys of a model with free axes. One not used lately is forgotten."""


class Curves:
    """A curve for each key, made at first sight from the measurements at load."""

    def __init__(self, max_rows: int, seed: Sequence[Knot], budget_s: float = math.inf) -> None:
        self._max_rows = max_rows
        self._seed = tuple(seed)
        self._budget_s = budget_s
        self._curves: dict[Key, LatencyCurve] = {}
        self._unbatched = False

    def of(self, key: Key) -> LatencyCurve:
        """The curve of a key."""
        return self._curves.get(key) or self._new(key)

    def used(self, key: Key) -> LatencyCurve:
        """The curve of a key, to be forgotten after all that were used before it."""
        curve = self._curves.pop(key, None)
        if curve is None:
            return self._new(key)
        self._curves[key] = curve
        return curve

    def unbatch(self) -> None:
        """From now on no two requests share a batch."""
        self._unbatched = True
        for curve in self._curves.values():
            curve.unbatch()

    def snapshot(self) -> Mapping[str, Sequence[Knot]]:
        """The p95 by rows, as it is predicted now, by key."""
        return {str(key): curve.predictions() for key, curve in self._curves.items()}

    def _new(self, key: Key) -> LatencyCurve:
        if len(self._curves) >= MAX_CURVES:
            del self._curves[next(iter(self._curves))]
        curve = self._curves[key] = LatencyCurve(self._max_rows, self._seed, self._budget_s)
        if self._unbatched:
            curve.unbatch()
        return curve
