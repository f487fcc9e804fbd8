"""The latest values of a measurement, sorted, for medians and percentiles. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable


class RecentValues:
    """The latest `size` values; older ones are forgotten. A value costs two searches and two small moves."""

    __slots__ = ("_arrived", "_size", "_sorted")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self._size = size
        self._arrived: deque[float] = deque()
        self._sorted: list[float] = []
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Add the newest value, and drop the oldest."""
        if len(self._arrived) == self._size:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(value)
        insort(self._sorted, value)

    def percentile(self, share: float) -> float:
        """The smallest value that at least this share of them does not exceed (nearest rank). There must be one."""
        return self._sorted[max(0, math.ceil(share * len(self._sorted)) - 1)]

    def __len__(self) -> int:
        return len(self._arrived)
