"""Standard output and standard error, whoever has them: nobody, a reader that has gone, or one that does not read."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from sluice.gateway.telemetry.log_writer import LogWriter

_INPUT, _OUTPUT, _ERRORS = range(3)


def open_standard_streams() -> None:
    """Have something behind each of them, be it nothing: what a process is started without, it must not get by chance.

    A socket that takes the number of a closed standard error would get what libraries write there.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _text(_OUTPUT)
    sys.stderr = sys.stderr or _text(_ERRORS)


def tell(text: str) -> None:
    """Write to standard output, whole or not at all, and wait for no reader."""
    LogWriter(_OUTPUT).write(text)


def _text(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
