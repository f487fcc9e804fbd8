"""HTTP/2's frames before they are decoded: cut apart, bounded in size, and limited in number where they carry nothing.

h2 works through all that it is given in one go, and keeps what is unfinished. So it is given whole frames, a few at a
time, and a client that sends floods of frames which only cost work is cut off (RFC 9113, section 10.5).
"""

from __future__ import annotations

from enum import IntEnum

from sluice.gateway.grpc.limits import MAX_FRAME_BYTES, PING_STRIKES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP_1_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"})
HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1

RUN_FRAMES, RUN_BYTES, RUN_BLOCK_BYTES = 32, 64 * 1024, 8 * 1024
"""How much is handed on in one go, at most: frames, bytes, and bytes of headers. A byte of headers may take a thousand
times as long as a byte of data."""

IDLE_FRAMES, IDLE_FRAMES_PER_S, EARNED_FRAMES = 2048, 256, 2
"""How many frames that carry nothing a connection may send: at once, in addition for each second, and in addition for
each frame that it is sent. A client that calls, cancels and takes its answers never comes near these bounds."""

TINY_BYTES = 32
"""A DATA frame that is shorter, and not the last one of its call, counts as a frame that carries nothing."""


class ErrorCode(IntEnum):
    """Those of HTTP/2's error codes that are sent here."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


class ConnectionEnded(Exception):
    """The connection must end. `code` and `told` are for its client."""

    def __init__(self, code: ErrorCode, told: bytes = b"") -> None:
        super().__init__(code, told)
        self.code = code
        self.told = told


class Frames:
    """Holds what has come on one connection, and hands it on in runs of whole frames.

    What is held between two runs is less than one frame, if `take` is only called once `run` gives nothing. GOAWAY is
    left out, since it would end all calls in h2; `goaway_received` says that one has come. Methods raise
    `ConnectionEnded`.
    """

    __slots__ = (
        "_allowance",
        "_at",
        "_block_bytes",
        "_counted_s",
        "_data",
        "_greeted",
        "_in_block",
        "_last_ping_s",
        "_max_block_bytes",
        "_min_ping_interval_s",
        "_strikes",
        "goaway_received",
        "unfinished_since_s",
    )

    def __init__(self, max_block_bytes: int, min_ping_interval_s: float, now_s: float) -> None:
        self._max_block_bytes = max_block_bytes
        self._min_ping_interval_s = min_ping_interval_s
        self._data = b""
        self._at = 0
        self._greeted = False
        self._in_block = False
        self._block_bytes = 0
        self._allowance = float(IDLE_FRAMES)
        self._counted_s = now_s
        self._strikes = 0
        self._last_ping_s = -1e9
        self.goaway_received = False
        self.unfinished_since_s: float | None = None
        """Since when a frame, or a list of headers, has been incomplete; `None` if none is."""

    @property
    def unread_bytes(self) -> int:
        """How many bytes are held."""
        return len(self._data) - self._at

    def take(self, data: bytes) -> None:
        """Add what has come."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    @property
    def speak_http_1(self) -> bool:
        """Whether what has come looks like an HTTP/1.1 request."""
        return not self._greeted and self._data.partition(b" ")[0] in HTTP_1_METHODS

    def forget(self) -> None:
        """Drop what is held."""
        self._data, self._at = b"", 0

    def sent(self, frames: int) -> None:
        """Note that the client was sent so many frames: it may send more frames that carry nothing."""
        self._strikes = 0
        self._last_ping_s = -1e9
        if self._allowance < IDLE_FRAMES:
            self._allowance += frames * EARNED_FRAMES

    def run(self, now_s: float) -> bytes:
        """The next whole frames, or nothing if there is none. Raises `ConnectionEnded`."""
        data, start = self._data, self._at
        at, end = start, len(data)
        if not self._greeted:
            if not data.startswith(PREFACE):
                if PREFACE.startswith(data):
                    return b""
                raise ConnectionEnded(ErrorCode.PROTOCOL_ERROR, b"this port speaks HTTP/2")
            self._greeted = True
            at = len(PREFACE)
        frames = block_bytes = 0
        while (
            end - at >= HEAD_BYTES and frames < RUN_FRAMES and at - start < RUN_BYTES and block_bytes < RUN_BLOCK_BYTES
        ):
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size > MAX_FRAME_BYTES:
                raise ConnectionEnded(ErrorCode.FRAME_SIZE_ERROR)
            stop = at + HEAD_BYTES + size
            if stop > end:
                break
            kind = data[at + 3]
            if kind == GOAWAY and not self._in_block:
                if at > start:
                    break
                self.goaway_received = True
                self._idle(now_s)
                start = at = stop
                continue
            self._weigh(kind, data[at + 4], size, now_s)
            if kind in (HEADERS, CONTINUATION):
                block_bytes += size
            at = stop
            frames += 1
        self._at = at
        if not frames:
            if not self._in_block and at == end:
                self.unfinished_since_s = None
            elif self.unfinished_since_s is None:
                self.unfinished_since_s = now_s
            return data[start:at]
        if not self._in_block:
            self.unfinished_since_s = None
        elif self.unfinished_since_s is None:
            self.unfinished_since_s = now_s
        return data if start == 0 and at == end else data[start:at]

    def _weigh(self, kind: int, flags: int, size: int, now_s: float) -> None:
        if kind == HEADERS:
            self._in_block = not flags & END_HEADERS
            self._block_bytes = size
        elif kind == DATA:
            if size < TINY_BYTES and not flags & END_STREAM:
                self._idle(now_s)
        elif kind == PING:
            if not flags & ACK:
                self._ping(now_s)
        elif kind == CONTINUATION:
            self._in_block = not flags & END_HEADERS
            self._block_bytes += size
            self._idle(now_s)
        else:
            self._idle(now_s)
        if self._block_bytes > self._max_block_bytes:
            raise ConnectionEnded(ErrorCode.ENHANCE_YOUR_CALM, b"the metadata are too long")

    def _idle(self, now_s: float) -> None:
        self._allowance -= 1
        if self._allowance < 0:
            self._allowance += (now_s - self._counted_s) * IDLE_FRAMES_PER_S
            self._allowance = min(self._allowance, IDLE_FRAMES)
            self._counted_s = now_s
            if self._allowance < 0:
                raise ConnectionEnded(ErrorCode.ENHANCE_YOUR_CALM, b"too many frames that carry nothing")

    def _ping(self, now_s: float) -> None:
        """End connections with too many pings, as other gRPC servers do (gRFC A8)."""
        if now_s - self._last_ping_s < self._min_ping_interval_s:
            self._strikes += 1
            if self._strikes > PING_STRIKES:
                raise ConnectionEnded(ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
        self._last_ping_s = now_s


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2, serialized."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def goaway(last_stream: int, code: int, told: bytes = b"") -> bytes:
    """A GOAWAY frame: streams after `last_stream` are not answered."""
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + told)
