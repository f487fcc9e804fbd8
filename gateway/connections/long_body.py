"""A long body on its way in, past the parser."""

from __future__ import annotations

from collections.abc import Iterator

_PIECE_BYTES = 16 * 1024

LARGE_BYTES = 256 * 1024
"""Bodies from this length on are the data plane's alone once it has them: it counts them, and lets them go as early as
it can. They stay in pieces, for to join them would keep the event loop."""


class LongBody:
    """A body whose length was announced, in the pieces in which it comes.

    Holds what has come and no more: to announce a body costs its sender a body. Pieces under 16 KiB are put together
    as they come, so that none of them costs more than it holds.
    """

    __slots__ = ("_pieces", "_short", "left_bytes", "received_bytes")

    def __init__(self, start: bytes | bytearray, left_bytes: int) -> None:
        self.received_bytes = len(start)
        self.left_bytes = left_bytes
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._short = bytearray(start)

    def take(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what belongs to the body, and give back what does not."""
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
            # A view would keep all that it is a part of for as long as the body is incomplete.
            self._pieces.append(bytes(data) if self.left_bytes else data)
        return rest

    def __len__(self) -> int:
        return self.received_bytes

    def whole(self) -> bytes:
        """The body, once `left_bytes` is 0. Of a long one this takes a while; the interpreter is free meanwhile."""
        self._keep_short()
        return b"".join(self._pieces)

    def pieces(self) -> Iterator[bytes | bytearray | memoryview]:
        """The body, once `left_bytes` is 0, piece by piece. Those that were given are kept no longer."""
        self._keep_short()
        self._pieces.reverse()
        while self._pieces:
            yield self._pieces.pop()

    def _keep_short(self) -> None:
        self._pieces.append(self._short)
        self._short = bytearray()
