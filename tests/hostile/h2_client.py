"""A client of HTTP/2 by hand that heeds flow control and nothing else, so that it can stop wherever it likes."""

from __future__ import annotations

import socket
import struct
import time

from tests.hostile.frames import (
    ACK,
    DATA,
    GOAWAY,
    OPENING,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    frame,
    headers,
    request_fields,
)

INITIAL_WINDOW = 4
FRAME_BYTES = 16_384


class H2Client:
    """One connection, blocking. `closed` once the server has ended it. A context manager that closes it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(OPENING)
        self._received = bytearray()
        self._window, self._initial = 65_535, 65_535
        self._streams: dict[int, int] = {}
        self.closed = False
        self.data: dict[int, bytes] = {}

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def open(self, stream: int, path: bytes) -> None:
        """Begin a call, and say nothing more."""
        self._streams[stream] = self._initial
        self.raw(headers(request_fields(path), stream))

    def raw(self, content: bytes) -> None:
        try:
            self._socket.sendall(content)
        except OSError:
            self.closed = True

    def call(self, stream: int, content: bytes) -> bytes:
        """The answer to a whole call, or what there is of it after ten seconds or when the connection ends."""
        self.raw(call(stream, content))
        until_s = time.monotonic() + 10
        while not self.closed and time.monotonic() < until_s and len(self.data.get(stream, b"")) < 5:
            self.read(0.1)
        return self.data.get(stream, b"")

    def send(self, stream: int, content: bytes, patience_s: float = 5.0) -> int:
        """Send as much data as the server takes, without an end, until it takes no more. The bytes sent."""
        at, until_s = 0, time.monotonic() + patience_s
        while at < len(content) and not self.closed:
            self.read(0)
            size = min(len(content) - at, FRAME_BYTES, self._window, self._streams.get(stream, 0))
            if size <= 0:
                if time.monotonic() > until_s:
                    break
                self.read(0.05)
                continue
            self.raw(frame(DATA, 0, stream, content[at : at + size]))
            at += size
            self._window -= size
            self._streams[stream] -= size
            until_s = time.monotonic() + patience_s
        return at

    def ended(self, within_s: float) -> bool:
        """Whether the server ends the connection, or says that it will, within this time."""
        until_s = time.monotonic() + within_s
        while not self.closed and time.monotonic() < until_s:
            self.read(0.1)
        return self.closed

    def read(self, for_s: float) -> None:
        """Take in what has come, waiting so long for it at most."""
        self._socket.settimeout(for_s or 0.000_1)
        try:
            piece = self._socket.recv(1 << 16)
            if not piece:
                self.closed = True
        except TimeoutError:
            return
        except OSError:
            self.closed = True
            return
        finally:
            self._socket.settimeout(10)
        self._received += piece
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3])
            if len(self._received) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            payload = bytes(self._received[9 : 9 + length])
            del self._received[: 9 + length]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == INITIAL_WINDOW:
                    self._streams = {each: left + value - self._initial for each, left in self._streams.items()}
                    self._initial = value
            self.raw(frame(SETTINGS, ACK, 0))
        elif kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream:
                self._streams[stream] = self._streams.get(stream, self._initial) + more
            else:
                self._window += more
        elif kind == PING and not flags & ACK:
            self.raw(frame(PING, ACK, 0, payload))
        elif kind == DATA:
            self.data[stream] = self.data.get(stream, b"") + payload
            if payload:
                self.raw(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
        elif kind == GOAWAY:
            self.closed = True
