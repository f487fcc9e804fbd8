"""How much memory the gateway holds for its callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sluice.inference.errors import Unavailable


class HeldBytes:
    """The bytes that are held for callers of all doors, and the bound on them.

    Requests and answers are counted here for as long as they are in memory: what was read and waits, what it grew to
    when it was inflated, and what was written and not yet taken by the client. The count bounds nothing by itself:
    code that is about to hold more asks `fits` first, and raises `refusal()` if it does not fit. For the event loop's
    thread only.
    """

    __slots__ = ("limit_bytes", "now_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.now_bytes = 0

    @property
    def over(self) -> bool:
        """Whether more is held than the limit allows."""
        return self.now_bytes > self.limit_bytes

    def fits(self, more_bytes: int) -> bool:
        """Whether `more_bytes` can be held beside what is held now."""
        return self.now_bytes + more_bytes <= self.limit_bytes

    def refusal(self) -> Unavailable:
        """The error for a caller for whom there is no room."""
        return Unavailable(
            f"the requests being read and answered are over the limit of {self.limit_bytes} bytes "
            "(server.max_buffered_bytes)"
        )

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """Count `size_bytes` while the block runs."""
        self.now_bytes += size_bytes
        try:
            yield
        finally:
            self.now_bytes -= size_bytes


class HeldShare:
    """The share of one call in `HeldBytes`. A context manager: the share is given back when the block ends."""

    __slots__ = ("_held", "size_bytes")

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self.size_bytes = 0

    def grow(self, more_bytes: int) -> None:
        """Hold `more_bytes` more. Raises `Unavailable` if they do not fit."""
        if not self._held.fits(more_bytes):
            raise self._held.refusal()
        self.become(self.size_bytes + more_bytes)

    def become(self, size_bytes: int) -> None:
        """Hold `size_bytes` in all from now on, whether they fit or not: what is held already has another form now."""
        self._held.now_bytes += size_bytes - self.size_bytes
        self.size_bytes = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.become(0)
