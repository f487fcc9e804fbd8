"""Writes log lines without making the event loop wait.

A pipe whose reader stops reading blocks its writers. So lines are handed to a thread, which alone may be blocked; lines
that do not fit into its queue are dropped and counted.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque

WAITING_BYTES = 4 << 20
"""How much may wait to be written: some ten thousand lines."""

WRITTEN_LINES = 256
"""How many lines are written together."""

FLUSH_S = 1.0
"""How long the end of the process waits for the last lines to be written."""


class LogWriter:
    """A text stream for `logging.StreamHandler` over the file `descriptor`, which it never closes.

    Lines are written whole and in order. Lines that cannot be written, because too much waits or the disk is full, are
    dropped: `dropped_lines` counts them.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        # Only one thread changes each of these two, so that they need no lock.
        self._come_bytes = self._gone_bytes = 0
        self._refused = self._unwritten = 0
        self._ready = threading.Event()
        self._closing = False
        # The thread writes to the descriptor: it could hold the lock of `sys.stderr` when the interpreter ends.
        self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def dropped_lines(self) -> int:
        """How many lines were dropped."""
        return self._refused + self._unwritten

    def write(self, text: str) -> int:
        """Queue a line. Never blocks. Called under the lock of the handler."""
        line = text.encode("utf-8", "backslashreplace")
        if self._come_bytes - self._gone_bytes + len(line) > WAITING_BYTES:
            self._refused += 1
        else:
            self._come_bytes += len(line)
            self._waiting.append(line)
            self._ready.set()
        return len(text)

    def flush(self) -> None:
        """Does nothing: the thread writes lines as soon as it can."""

    def close(self) -> None:
        """Wait until all lines are written, for up to `FLUSH_S`."""
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
                # Another process has made the descriptor non-blocking: wait until it can be written to.
                select.select([], [self._descriptor], [])
