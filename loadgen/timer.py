"""A timer that goes off within microseconds: timerfd of Linux. The timers of uvloop are whole milliseconds."""

from __future__ import annotations

import ctypes
import math
import os
from typing import ClassVar, Self

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_: ClassVar = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Setting(ctypes.Structure):
    _fields_: ClassVar = [("interval", _Timespec), ("value", _Timespec)]


class PreciseTimer:
    """A descriptor that is readable once the time set has come, and until another is set. timerfd_create(2).

    Times are those of `time.monotonic`. Owns the descriptor until it is left. Raises `OSError` where the kernel does.
    """

    def __init__(self) -> None:
        self._descriptor = _checked(_LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        self._setting = _Setting()
        self._reference = ctypes.byref(self._setting)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def set(self, at_s: float) -> None:
        """Go off at this time, in place of the one set before; `math.inf` is never."""
        value = self._setting.value
        if at_s == math.inf:
            value.seconds = value.nanoseconds = 0
        else:
            value.seconds, value.nanoseconds = divmod(max(1, int(at_s * 1e9)), 1_000_000_000)
        _checked(_LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, self._reference, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
