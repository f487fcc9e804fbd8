"""How much of the gateway's memory its callers take up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sluice.inference.errors import Unavailable


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

    def refusal(self) -> Unavailable:
        """What is said to those for whom there is no room."""
        return Unavailable(
            f"the requests being read and answered are over the limit of {self.limit_bytes} bytes "
            "(server.max_buffered_bytes)"
        )

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """Count so much while a block runs."""
        self.now_bytes += size_bytes
        try:
            yield
        finally:
            self.now_bytes -= size_bytes


class HeldShare:
    """What one call holds of it, for as long as a block runs; it changes on the call's way.

    `grow` raises `Unavailable` where there is no room for more.
    """

    __slots__ = ("_held", "size_bytes")

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self.size_bytes = 0

    def grow(self, more_bytes: int) -> None:
        """Hold so much more, if it fits."""
        if not self._held.fits(more_bytes):
            raise self._held.refusal()
        self.become(self.size_bytes + more_bytes)

    def become(self, size_bytes: int) -> None:
        """Hold this much from now on: what is held already has got another form."""
        self._held.now_bytes += size_bytes - self.size_bytes
        self.size_bytes = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.become(0)
