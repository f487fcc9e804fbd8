"""The messages of one call as they come in, each behind a prefix of five bytes with its length."""

from __future__ import annotations

from collections import deque

from sluice.gateway.connections.held_bytes import HeldBytes
from sluice.gateway.grpc.limits import STEP_BYTES, STREAM_WINDOW_BYTES
from sluice.gateway.grpc.methods import MessageBody
from sluice.inference.errors import InvalidRequest, RequestTooLarge

PREFIX_BYTES = 5

KEPT_BYTES = 128
"""What a waiting message is counted for beside its own bytes: thousands of empty ones take memory, too."""


class Inbox:
    """Holds what has come of a call's messages. Complete ones are taken in order.

    What is held counts in `held`, until it is taken or dropped. A message for which there is no room is refused as soon
    as its length is known, or later, when other calls have filled the room meanwhile.
    """

    __slots__ = ("_held", "_max_message_bytes", "_packed", "_part", "_prefix", "_whole", "held_bytes", "left_bytes")

    def __init__(self, held: HeldBytes, max_message_bytes: int) -> None:
        self._held = held
        self._max_message_bytes = max_message_bytes
        self._whole: deque[tuple[MessageBody, bool]] = deque()
        self._prefix = b""
        self._part: bytearray | None = None
        self._packed = False
        self.left_bytes = 0
        """How many bytes of the incomplete message are missing."""
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def incomplete(self) -> bool:
        """Whether a message is incomplete."""
        return self._part is not None or bool(self._prefix)

    @property
    def wanted_bytes(self) -> int:
        """How much the client may send now: what fits beside what waits, or the next step of a long message."""
        beside = STREAM_WINDOW_BYTES - self.held_bytes
        ahead = 0 if self._whole else min(self.left_bytes, STEP_BYTES)
        return max(beside, ahead, 0)

    def feed(self, data: bytes) -> bool:
        """Add what has come. Returns whether it completed a message.

        Raises `InvalidRequest`, `RequestTooLarge`, `Unavailable`.
        """
        size = len(data)
        self.held_bytes += size
        self._held.now_bytes += size
        if self._part is None and not self._prefix and size > PREFIX_BYTES:
            # Most messages come whole, and alone.
            if int.from_bytes(data[1:PREFIX_BYTES], "big") == size - PREFIX_BYTES:
                self._begin(data[:PREFIX_BYTES], size - PREFIX_BYTES)
                self._keep(data[PREFIX_BYTES:])
                return True
        elif self._part is not None and size < self.left_bytes:
            self._part += data
            self.left_bytes -= size
            self._look_at_room()
            return False
        had = len(self._whole)
        self._cut(data)
        if self._part is not None:
            self._look_at_room()
        return len(self._whole) > had

    def take(self) -> tuple[MessageBody, bool]:
        """The next complete message, and whether it is compressed. It is counted here no more: the caller counts it."""
        body, packed = self._whole.popleft()
        self._held.now_bytes -= KEPT_BYTES
        self._give_back(len(body) + PREFIX_BYTES)
        return body, packed

    def drop(self) -> None:
        """Drop what is held."""
        self._held.now_bytes -= KEPT_BYTES * len(self._whole)
        self._whole.clear()
        self._prefix, self._part = b"", None
        self._give_back(self.held_bytes)

    def _cut(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._part is None:
                more = data[at : at + PREFIX_BYTES - len(self._prefix)]
                self._prefix += more
                at += len(more)
                if len(self._prefix) < PREFIX_BYTES:
                    return
                prefix, self._prefix = self._prefix, b""
                self._begin(prefix, end - at)
                self._part = bytearray()
            piece = data[at : at + self.left_bytes]
            self._part += piece
            self.left_bytes -= len(piece)
            at += len(piece)
            if not self.left_bytes:
                self._keep(self._part)

    def _begin(self, prefix: bytes, here_bytes: int) -> None:
        """Read the prefix of a message. `here_bytes` of the message have come with it."""
        if prefix[0] > 1:
            raise InvalidRequest(f"a message begins with {prefix[0]}; expected 0, or 1 where it is compressed")
        size = int.from_bytes(prefix[1:], "big")
        if size > self._max_message_bytes:
            raise RequestTooLarge(
                f"the message is {size} bytes long; the limit is {self._max_message_bytes} bytes "
                "(server.max_body_bytes)"
            )
        if not self._held.fits(max(0, size - here_bytes)):
            raise self._held.refusal()
        self._packed = prefix[0] == 1
        self.left_bytes = size

    def _keep(self, body: MessageBody) -> None:
        self._whole.append((body, self._packed))
        self._held.now_bytes += KEPT_BYTES
        self._part = None
        self.left_bytes = 0

    def _look_at_room(self) -> None:
        if self._held.over:
            raise self._held.refusal()

    def _give_back(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
        self._held.now_bytes -= size_bytes
