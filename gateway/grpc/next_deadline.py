"""The next deadline of a connection."""

from __future__ import annotations


class NextDeadline:
    """When a connection has to be looked at next, in the loop's own time. Each part of it brings this forward."""

    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def due(self, at_s: float) -> None:
        """Something is due at this time."""
        if at_s < self.at_s:
            self.at_s = at_s
