"""The way of log lines out of the process, which never makes the event loop wait.

A reader that stops reading its pipe blocks whoever writes to it, for as long as it likes. So lines are handed to a
thread, which alone waits; too many of them are dropped and counted.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque

WAITING_BYTES = 4 << 20
"""Lines that wait to be written, at most: some ten thousand."""

WRITTEN_LINES = 256
"""Lines that are written together."""

FLUSH_S = 1.0
"""How long the end of the process waits for the last lines to be written."""


class LogWriter:
    """A text stream for `logging.StreamHandler` over the file `descriptor`, which it never closes.

    Lines come out whole and in their order. What cannot be written, since too much waits or since the disk is full, is
    dropped: `dropped_lines` counts it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        # Each is written by one thread only: what came, and what left.
        self._come_bytes = self._gone_bytes = 0
        self._refused = self._unwritten = 0
        self._ready = threading.Event()
        self._closing = False
        # By the descriptor and not by `sys.stderr`, whose lock the thread could hold when the interpreter wants to end.
        self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def dropped_lines(self) -> int:
        """Lines that nobody will ever read."""
        return self._refused + self._unwritten

    def write(self, text: str) -> int:
        """Have a line written. Never blocks. Called under the handler's lock."""
        line = text.encode("utf-8", "backslashreplace")
        if self._come_bytes - self._gone_bytes + len(line) > WAITING_BYTES:
            self._refused += 1
        else:
            self._come_bytes += len(line)
            self._waiting.append(line)
            self._ready.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: lines are on their way as soon as they are there."""

    def close(self) -> None:
        """Wait until all is written, but not for ever."""
        self._closing = True
        self._ready.set()
        self._thread.join(FLUSH_S)

    def _write_on(self) -> None:
        while not self._closing or self._waiting:
            self._ready.wait()
            self._ready.clear()
            while self._waiting:
                lines = [self._waiting.popleft() for _ in range(min(WRITTEN_LINES, len(self._waiting)))]
                try:
                    self._write(b"".join(lines))
                except OSError:
                    self._unwritten += len(lines)
                self._gone_bytes += sum(map(len, lines))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Somebody else has made it non-blocking: what this thread is here to wait for, it asks for.
                select.select([], [self._descriptor], [])
