"""A circuit breaker: when to leave a failing service alone, and when to try it again. Pure.

The pattern is Michael Nygard's (Release It!, 2007). Here a try is made in the background and costs no request anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
GROWTH = 2.0
JITTER = 0.2
"""Pauses differ by up to this part, so that many gateways do not come back at the same moment."""

STEADY_S = 10.0
"""A failure this long after the last one begins anew with the first pause."""


class BreakerState(StrEnum):
    """The states of a breaker."""

    CLOSED = "closed"
    """It is used."""
    OPEN = "open"
    """It is left alone."""
    HALF_OPEN = "half_open"
    """It is being tried."""


class Breaker:
    """Opens with a failure, and closes when a try has succeeded. Pauses between tries grow while failures go on.

    A single failure is enough to open, since the next caller would only lose its time too, and the first try comes
    soon. `chance` gives a number from 0 to 1.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self.state = BreakerState.OPEN
        self.try_at_s = 0.0
        """When the next try is due. Without meaning while the state is closed."""
        self._chance = chance
        self._pause_s = 0.0
        self._failed_at_s = float("-inf")

    def failed(self, now_s: float) -> None:
        """Something failed, or a try did. Of several at the same time, the first counts."""
        if self.state is BreakerState.OPEN and self._pause_s:
            return
        fresh = now_s - self._failed_at_s > STEADY_S
        self._pause_s = FIRST_PAUSE_S if fresh else min(self._pause_s * GROWTH, LONGEST_PAUSE_S)
        self._failed_at_s = now_s
        self.state = BreakerState.OPEN
        self.try_at_s = now_s + self._pause_s * (1 + JITTER * (2 * self._chance() - 1))

    def trying(self) -> None:
        """A try begins."""
        self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """A try has succeeded."""
        self.state = BreakerState.CLOSED

    @property
    def persists(self) -> bool:
        """Whether this is more than one short failure."""
        return self._pause_s > FIRST_PAUSE_S
