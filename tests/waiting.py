"""Waiting for what other processes and threads do."""

from __future__ import annotations

import time
from collections.abc import Callable

BETWEEN_LOOKS_S = 0.01
"""A loop that never pauses takes the processor from what it waits for."""


def eventually(
    condition: Callable[[], bool], meanwhile: Callable[[], bool] = lambda: True, within_s: float = 60.0
) -> None:
    """Return as soon as a condition holds; until then, `meanwhile` must hold at every look.

    Raises AssertionError when `meanwhile` does not hold, or when the condition does not within `within_s`.
    """
    end_s = time.monotonic() + within_s
    while not condition():
        assert meanwhile(), "it can no longer happen"
        assert time.monotonic() < end_s, f"it did not happen within {within_s:g} s"
        time.sleep(BETWEEN_LOOKS_S)
