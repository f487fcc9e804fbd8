"""Bounds how many log lines of one kind are written in a second."""

from __future__ import annotations


class Sampler:
    """Lets at most `per_s` lines through in each second of the clock, and counts those that it kept back.

    A log line costs more than a small prediction, and much more than refusing a call: without a bound, a client that
    sends nonsense fast enough would slow down all others.
    """

    __slots__ = ("_kept_back", "_left", "_per_s", "_second")

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = -1
        self._left = 0
        self._kept_back = 0

    def admit(self, now_s: float) -> int | None:
        """How many lines were kept back since the last admitted one, or `None`: keep this one back, too."""
        second = int(now_s)
        if second != self._second:
            self._second, self._left = second, self._per_s
        if self._left <= 0:
            self._kept_back += 1
            return None
        self._left -= 1
        kept_back, self._kept_back = self._kept_back, 0
        return kept_back
