"""The log as it was, after a test that has configured it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sluice.gateway.telemetry.logs import log


@contextmanager
def restored() -> Iterator[None]:
    """What a block changes of logging is undone.

    Once it is configured, `log` remembers what it found when it was used first, for the rest of the process.
    """
    root, own = logging.getLogger(), logging.getLogger("sluice")
    handlers, levels = root.handlers[:], (root.level, own.level)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
        vars(log).pop("bind", None)
