"""How many connections all doors of a process may have open together."""

from __future__ import annotations

from sluice.gateway.connections.limits import surplus_connections


class ConnectionBudget:
    """The connections of all doors, and the bound on them.

    Call `enter` for each connection that was accepted: `False` says to close it at once, since even a refusal would
    cost too much. A connection that is let in while `over` is true is to be refused with an answer. Call `leave` once
    for each connection that was let in. While `exhausted` is true there is no descriptor to spare, and none is let in.
    `refused` counts both kinds of refusal. For the event loop's thread only.
    """

    __slots__ = ("_surplus", "exhausted", "limit", "open", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self.refused = 0
        self.exhausted = False
        self._surplus = surplus_connections(limit)

    def set_limit(self, limit: int) -> None:
        """Set the bound. Connections that are open already stay."""
        self.limit = limit
        self._surplus = surplus_connections(limit)

    @property
    def over(self) -> bool:
        """Whether more are open than the limit allows."""
        return self.open > self.limit

    def enter(self) -> bool:
        """Count one more connection, be it one too many. `False` if it must be closed without an answer."""
        if self.exhausted or self.open >= self.limit + self._surplus:
            self.refused += 1
            return False
        self.open += 1
        if self.over:
            self.refused += 1
        return True

    def leave(self) -> None:
        """Uncount a connection that was let in and is closed."""
        self.open -= 1
