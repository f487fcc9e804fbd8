"""The bytes of one connection on their way to the parser, or past it."""

from __future__ import annotations

from typing import Protocol

from sluice.gateway.connections.long_body import LARGE_BYTES, LongBody
from sluice.gateway.http.actions import Flow
from sluice.gateway.http.prediction import Prediction
from sluice.gateway.http.request_parser import SLICE_BYTES, RequestParser

_LONG_BYTES = 64 * 1024
"""A body that still lacks this much does not pass through the parser, which would copy it once more."""


class KeptBytes(Protocol):
    """Whom a `RequestFeed` tells what it keeps."""

    def count(self) -> None:
        """More bytes are kept than before, or fewer."""

    def refuse_if_crowded(self) -> None:
        """More bytes are kept than before; if all connections keep too many, what came last is refused."""

    def came_unwanted(self, size_bytes: int) -> None:
        """Bytes came after the last request, and were thrown away."""


class RequestFeed:
    """Feeds the parser slice by slice, and keeps what may not be parsed yet.

    While it is `held` nothing is parsed: at most one read of the socket is kept. Once the parser has ended, all that
    comes is thrown away. The rest of a long body is gathered as it comes.
    """

    __slots__ = ("_flow", "_kept", "_unread", "held", "long_body", "parser")

    def __init__(self, parser: RequestParser, kept: KeptBytes, flow: Flow) -> None:
        self.parser = parser
        self._kept = kept
        self._flow = flow
        self._unread = memoryview(b"")
        self.held = False
        self.long_body: LongBody | None = None

    def receive(self, data: bytes) -> None:
        """Parse at once what is short and may be parsed; keep the rest."""
        if self.held or len(data) > SLICE_BYTES:
            self._store(data)
        else:
            self.parser.feed(data)

    def gather(self, prediction: Prediction) -> None:
        """Take the rest of this body past the parser, if it is long enough for that."""
        if prediction.left_bytes >= _LONG_BYTES:
            assert not isinstance(prediction.body, LongBody)
            self.long_body = LongBody(prediction.body, prediction.left_bytes)
            prediction.body = b""
            self.held = True

    def release(self) -> None:
        """Parse what was kept, and read on if all of it could be parsed."""
        if not self.parser.ended:
            self.held = False
            if self._unread:
                self._parse_unread()
        if self.parser.ended or not self.held:
            self._flow.resume_reading()

    def end(self) -> int:
        """Parse nothing any more. Returns how many bytes were kept and are thrown away."""
        self.parser.ended = self.held = True
        dropped_bytes = len(self._unread)
        self._unread = memoryview(b"")
        self.long_body = None
        return dropped_bytes

    def close(self) -> None:
        """Let go of the connection, so that nothing of it waits for the garbage collector. The last call."""
        self.end()
        self.parser.close()
        del self._kept

    def kept_bytes(self) -> int:
        """What is kept here and of a head, and of a body if it is long."""
        kept_bytes = len(self._unread) + self.parser.head_bytes
        return kept_bytes if self.long_body is None else kept_bytes + self.long_body.received_bytes

    def body_bytes(self) -> int:
        """How much of the body that is coming in has come."""
        if self.long_body is not None:
            return self.long_body.received_bytes
        filling = self.parser.filling
        return len(filling.body) if filling is not None else self.parser.page_bytes

    def _store(self, data: bytes) -> None:
        """Keep what may not be parsed yet, or not all at once."""
        if self.parser.ended:
            self._kept.came_unwanted(len(data))
            return
        if self.long_body is not None:
            self._fill(self.long_body, data)
            return
        self._unread = memoryview(bytes(self._unread) + data) if self._unread else memoryview(data)
        self._kept.count()
        self._parse_unread()
        self._kept.count()
        if self._unread:
            self._flow.pause_reading()
            self._kept.refuse_if_crowded()

    def _parse_unread(self) -> None:
        parser = self.parser
        while self._unread and not self.held:
            # A body of known length needs no slices: no request can hide in it.
            size_bytes = max(SLICE_BYTES, parser.filling.left_bytes if parser.filling is not None else 0)
            piece, self._unread = self._unread[:size_bytes], self._unread[size_bytes:]
            parser.feed(piece)
        if self.long_body is not None and self._unread:
            rest, self._unread = self._unread, memoryview(b"")
            self._fill(self.long_body, rest)

    def _fill(self, long_body: LongBody, data: bytes | memoryview) -> None:
        """Take the bytes of a long body as they are. Its end is known, and so the parser has no part in it."""
        rest = long_body.take(data)
        self._kept.count()
        self._kept.refuse_if_crowded()
        if not long_body.left_bytes and self.long_body is long_body:
            self.long_body = None
            self.held = False
            self.parser.finish_body(long_body.whole() if len(long_body) < LARGE_BYTES else long_body)
            if rest:
                self.receive(bytes(rest))
