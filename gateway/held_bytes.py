"""How much of the gateway's memory its callers take up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class HeldBytes:
    """The bytes that are held for callers, all doors together, and the bound on them.

    Whoever keeps a request or an answer in memory counts it here for as long as it does: what was read and waits, what
    it grew to when it was inflated, and what is written and not yet taken. It bounds nothing by itself: who would hold
    more asks `fits`, and refuses. All methods belong to the event loop's thread.
    """

    __slots__ = ("limit_bytes", "now_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.now_bytes = 0

    @property
    def over(self) -> bool:
        """Whether more is held than may be."""
        return self.now_bytes > self.limit_bytes

    def fits(self, more_bytes: int) -> bool:
        """Whether so much more may be held."""
        return self.now_bytes + more_bytes <= self.limit_bytes

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """Count so much while a block runs."""
        self.now_bytes += size_bytes
        try:
            yield
        finally:
            self.now_bytes -= size_bytes
