"""Log lines that a client can cause as often as it likes, bounded so that none can flood the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sluice.gateway.telemetry.sampler import Sampler

LINES_PER_S = 5


class FaultLog:
    """Logs faults of connections: at most `LINES_PER_S` lines a second about those of clients, and as many about ours.

    The two are counted apart, so that neither hides the other. A line says how many lines were left out before it.
    `text` must not contain anything that a client sent.
    """

    __slots__ = ("_clients_faults", "_clock", "_own_faults")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._own_faults = Sampler(LINES_PER_S)
        self._clients_faults = Sampler(LINES_PER_S)

    def warn(self, logger: logging.Logger, text: str) -> None:
        """Log a fault of a client."""
        self._log(self._clients_faults, logger, logging.WARNING, text)

    def error(self, logger: logging.Logger, text: str, cause: BaseException | None) -> None:
        """Log a fault of our own."""
        self._log(self._own_faults, logger, logging.ERROR, text, cause)

    def _log(
        self, sampler: Sampler, logger: logging.Logger, level: int, text: str, cause: BaseException | None = None
    ) -> None:
        kept_back = sampler.admit(self._clock())
        if kept_back is not None:
            more = f" ({kept_back} such lines were kept back)" if kept_back else ""
            logger.log(level, "%s%s", text, more, exc_info=cause)
