"""The signals that end the process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Passes SIGTERM and SIGINT to the handler of the innermost `handled_by` block. Outside of one they are ignored."""

    def __init__(self) -> None:
        self._handler: Callable[[int], None] = lambda number: None

    @contextmanager
    def handled_by(self, handler: Callable[[int], None]) -> Iterator[None]:
        """While the block runs, the signals are for `handler`; it runs in the event loop's thread."""
        former, self._handler = self._handler, handler
        try:
            yield
        finally:
            self._handler = former

    @contextmanager
    def caught(self) -> Iterator[None]:
        """From here to the end of the block, no such signal ends the process by itself. Main thread only."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        self._handler(number)
