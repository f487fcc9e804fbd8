"""How many connections all doors of a process may have open together."""

from __future__ import annotations

from sluice.gateway.connections.limits import surplus_connections


class ConnectionBudget:
    """The connections of all doors, and the bound on them.

    Whoever accepts a connection asks `enter` first: it says no where even telling the client would be a burden. A
    connection that is let in while `over` is true is to be told that there are too many. Each that was let in is given
    back with `leave`, once. While `exhausted` is true there is no descriptor to spare, and nobody is let in.
    All methods belong to the event loop's thread.
    """

    __slots__ = ("_surplus", "exhausted", "limit", "open", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self.refused = 0
        self.exhausted = False
        self._surplus = surplus_connections(limit)

    def set_limit(self, limit: int) -> None:
        """Let this be the bound from now on."""
        self.limit = limit
        self._surplus = surplus_connections(limit)

    @property
    def over(self) -> bool:
        """Whether more are open than may be."""
        return self.open > self.limit

    def enter(self) -> bool:
        """Let one more in, if only to be told that it is one too many; whether there is room even for that."""
        if self.exhausted or self.open >= self.limit + self._surplus:
            self.refused += 1
            return False
        self.open += 1
        if self.over:
            self.refused += 1
        return True

    def leave(self) -> None:
        """One is gone."""
        self.open -= 1
