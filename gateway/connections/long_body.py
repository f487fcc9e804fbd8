"""A long body that is read without the parser."""

from __future__ import annotations

from collections.abc import Iterator

_PIECE_BYTES = 16 * 1024

LARGE_BYTES = 256 * 1024
"""Bodies from this length on belong to the data plane once it has them: it counts them, and frees them as early as it
can. They stay in pieces, since joining them would block the event loop."""


class LongBody:
    """A body whose length was announced, in the pieces in which it comes.

    It holds only what has come: announcing a long body reserves no memory. Pieces under 16 KiB are joined as they come,
    since the overhead of each would be more than what it holds.
    """

    __slots__ = ("_pieces", "_short", "left_bytes", "received_bytes")

    def __init__(self, start: bytes | bytearray, left_bytes: int) -> None:
        self.received_bytes = len(start)
        self.left_bytes = left_bytes
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._short = bytearray(start)

    def take(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the part of `data` that belongs to the body, and return the rest."""
        rest: bytes | memoryview = b""
        if len(data) > self.left_bytes:
            data, rest = data[: self.left_bytes], data[self.left_bytes :]
        self.left_bytes -= len(data)
        self.received_bytes += len(data)
        if len(data) < _PIECE_BYTES:
            self._short += data
            if len(self._short) >= _PIECE_BYTES:
                self._keep_short()
        else:
            if self._short:
                self._keep_short()
            # A view would keep its whole buffer in memory for as long as the body is incomplete.
            self._pieces.append(bytes(data) if self.left_bytes else data)
        return rest

    def __len__(self) -> int:
        return self.received_bytes

    def whole(self) -> bytes:
        """The body in one piece, once `left_bytes` is 0. It takes a while, and other threads run meanwhile."""
        self._keep_short()
        return b"".join(self._pieces)

    def pieces(self) -> Iterator[bytes | bytearray | memoryview]:
        """The pieces of the body, once `left_bytes` is 0. A piece that was given is kept no longer."""
        self._keep_short()
        self._pieces.reverse()
        while self._pieces:
            yield self._pieces.pop()

    def _keep_short(self) -> None:
        self._pieces.append(self._short)
        self._short = bytearray()
