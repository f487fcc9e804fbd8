"""How long requests have waited before anybody could see them: the turns of the event loop."""

from __future__ import annotations

BLOCKED_S = 0.003
"""A loop that has had nothing to do for so long was waiting for requests, and not they for it. Its clock counts in
milliseconds."""


class LoopTurns:
    """When what the event loop reads now may have come.

    A request that comes while the loop is busy is read at the end of that turn, and nobody can tell when it came: it
    counts from the turn's middle. A loop that was waiting when the request came has read it at once.

    The loop's own time stands still while it works off what is ready, and while it reads its sockets: so it says when a
    turn began, and when the sockets were looked at.
    """

    __slots__ = ("_began_s", "_busy_s")

    def __init__(self) -> None:
        self._began_s = self._busy_s = 0.0

    def worked(self, turn_s: float, now_s: float) -> None:
        """The loop is at work at `now_s`, in the turn that began at `turn_s` by its own time."""
        self._began_s = turn_s
        self._busy_s = now_s

    def came_s(self, polled_s: float) -> float:
        """When a request may have come that is read now, at `polled_s` by the loop's own time."""
        return polled_s if polled_s - self._busy_s > BLOCKED_S else min((self._began_s + polled_s) / 2, polled_s)
