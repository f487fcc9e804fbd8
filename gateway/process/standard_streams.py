"""Standard streams that may be closed, or whose reader may be gone or not read."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from sluice.gateway.telemetry.log_writer import LogWriter

_INPUT, _OUTPUT, _ERRORS = range(3)


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise a socket could get the descriptor of standard error, and with it what libraries write there.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _text(_OUTPUT)
    sys.stderr = sys.stderr or _text(_ERRORS)


def tell(text: str) -> None:
    """Write to standard output, whole or not at all, without waiting for its reader."""
    LogWriter(_OUTPUT).write(text)


def _text(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
