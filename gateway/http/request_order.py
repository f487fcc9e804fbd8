"""The requests of one connection in the order in which they are answered."""

from __future__ import annotations

from sluice.gateway.http.actions import Page
from sluice.gateway.http.prediction import Prediction

_WAITING_BYTES, _WAITING_PAGE_BYTES = 512, 4096
"""What a prediction that waits behind another request takes beside its body, and a page with all that FastAPI needs."""


class RequestOrder:
    """`current` is the request whose answer is the next on the wire; those that are `waiting` come behind it.

    Requests may also wait with none of them current: while the client does not take the answer before.
    """

    __slots__ = ("_waiting_pages", "current", "waiting")

    def __init__(self) -> None:
        self.current: Prediction | Page | None = None
        # A list: few wait, and an empty deque takes some 700 bytes more, for every connection.
        self.waiting: list[Prediction | Page] = []
        self._waiting_pages = 0

    @property
    def last(self) -> Prediction | Page | None:
        """The request that came last of those that are not answered."""
        return self.waiting[-1] if self.waiting else self.current

    def take_place(self, request: Prediction | Page) -> bool:
        """Give a request its place. Returns whether it is its turn at once."""
        if self.current is None and not self.waiting:
            self.current = request
            return True
        self.waiting.append(request)
        self._waiting_pages += not isinstance(request, Prediction)
        return False

    def advance(self) -> Prediction | Page:
        """Make the first of those that wait current, and return it. Raises `IndexError` where none waits."""
        self.current = request = self.waiting.pop(0)
        self._waiting_pages -= not isinstance(request, Prediction)
        return request

    def withdraw_last(self) -> None:
        """Take the place of a waiting request away. Raises `IndexError` where none waits."""
        self._waiting_pages -= not isinstance(self.waiting.pop(), Prediction)

    def clear(self) -> None:
        """Forget all of them."""
        self.current = None
        self.waiting.clear()
        self._waiting_pages = 0

    def held_bytes(self) -> int:
        """About how much memory they take: the body of the current prediction, and that of a page if it came last."""
        held_bytes = len(self.waiting) * _WAITING_BYTES + self._waiting_pages * _WAITING_PAGE_BYTES
        current, last = self.current, self.last
        if isinstance(current, Prediction):
            held_bytes += len(current.body)
        if last is not None and not isinstance(last, Prediction):
            held_bytes += last.body_bytes
        return held_bytes
