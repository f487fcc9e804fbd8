"""How fast the queue drains. Pure."""

from __future__ import annotations

MEMORY = 0.9
SHORTEST_S = 1.0
LONGEST_S = 60.0


class DrainRate:
    """Rows per second of busy time: an average over batches in which each weighs 0.9 of the one after it.

    Only time in which a batch was out counts, so a quiet hour does not look like a slow model.
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._busy_s = 0.0
        self._last_s = float("-inf")

    @property
    def rows_per_s(self) -> float:
        """Zero before anything was measured."""
        return self._rows / self._busy_s if self._busy_s else 0.0

    def batch_ended(self, rows: int, started_s: float, now_s: float) -> None:
        """Take note of a batch that was out from `started_s` to `now_s`; batches may overlap."""
        self._rows = self._rows * MEMORY + rows
        self._busy_s = self._busy_s * MEMORY + now_s - max(started_s, self._last_s)
        self._last_s = now_s

    def retry_after_s(self, waiting_rows: int) -> float:
        """When the rows that wait now will have gone, within 1 and 60 s; 1 s before anything was measured."""
        rate = self.rows_per_s
        return min(max(waiting_rows / rate, SHORTEST_S), LONGEST_S) if rate else SHORTEST_S
