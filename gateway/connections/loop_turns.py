"""When a request may have come, as the turns of the event loop tell: it may have waited before it was read."""

from __future__ import annotations

BLOCKED_S = 0.003
"""A loop that has had nothing to do for so long was waiting for requests: none waited for it. Its clock counts in
milliseconds."""


class LoopTurns:
    """When the request that the event loop reads now may have come.

    A request that comes while the loop is busy is read at the end of that turn. When in the turn it came is not known,
    so it counts from the middle. A loop that was waiting when a request came has read it at once.

    The loop's own time stands still while it runs what is ready, and while it reads its sockets. So it says when a turn
    began, and when the sockets were polled.
    """

    __slots__ = ("_began_s", "_busy_s")

    def __init__(self) -> None:
        self._began_s = self._busy_s = 0.0

    def worked(self, turn_s: float, now_s: float) -> None:
        """Note that the loop is busy at `now_s`, in the turn that began at `turn_s` by its own time."""
        self._began_s = turn_s
        self._busy_s = now_s

    def came_s(self, polled_s: float) -> float:
        """When a request may have come that is read now. Sockets were polled at `polled_s`, by the loop's own time."""
        return polled_s if polled_s - self._busy_s > BLOCKED_S else min((self._began_s + polled_s) / 2, polled_s)
