"""The rate at which rows come in, without those that clients send because they got an answer. Pure."""

from __future__ import annotations

import math

SILENT_ROWS = 3.0
"""Of random arrivals, one time in twenty none comes where three were to be expected (exp(-3) = 0.05)."""


class Traffic:
    """Rows per second that come in while the batcher is busy, each weighed by exp(-age / `memory_s`).

    Only time in which a batch is out, or is held back, counts, and only what comes in during it. Clients that send when
    they have their answer would look like heavy traffic otherwise, and waiting for them would be waiting for oneself.
    Arrivals that do not depend on answers come at the same rate whether or not the batcher is busy (PASTA: R. Wolff,
    "Poisson Arrivals See Time Averages", Operations Research 30, 1982). After a pause of more than `memory_s` the rate
    is 0 again. `now_s` is monotonic time.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._rows = 0.0
        self._last_s = -math.inf
        self._heard_s = -math.inf
        self._counting = False

    def watch(self, now_s: float, *, busy: bool) -> None:
        """Count from now on, or pause."""
        if busy == self._counting:
            return
        if not busy:
            self._age(now_s)
        elif now_s - self._last_s > self._memory_s:
            self._rows = 0.0
        else:
            self._heard_s += now_s - self._last_s  # time without counting is not time without traffic
        self._last_s = now_s
        self._counting = busy

    def arrived(self, rows: int, now_s: float) -> None:
        """Take note of rows that came in."""
        if self._counting:
            self._age(now_s)
            self._rows += rows
            self._heard_s = now_s

    def rows_per_s(self, now_s: float) -> float:
        """The rate now; after a silence, no more than what is likely to be silent for so long."""
        if self._counting:
            self._age(now_s)
        until_s = now_s if self._counting else self._last_s
        rows_per_s, silence_s = self._rows / self._memory_s, until_s - self._heard_s
        return min(rows_per_s, SILENT_ROWS / silence_s) if silence_s > 0.0 else rows_per_s

    def _age(self, now_s: float) -> None:
        self._rows *= math.exp((self._last_s - now_s) / self._memory_s)
        self._last_s = now_s
