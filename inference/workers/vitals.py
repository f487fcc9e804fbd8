"""How a process is doing, as the kernel tells it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

LOOK_S = 1.0
"""How often a worker is looked at that is at work and says nothing."""

STOPPED_LOOKS = 2
"""A worker that is found stopped so often in a row is replaced. One look may have met a profiler, which stops it for a
moment."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOPPED = frozenset("Tt")


class Vitals(msgspec.Struct, frozen=True):
    """One look. `stopped` by a signal or a debugger; `cpu_s` is the processor time that all its threads have had."""

    stopped: bool
    cpu_s: float


def vitals(pid: int) -> Vitals | None:
    """A look at a process; `None` if there is none to be seen.

    Source: the kernel's Documentation/filesystems/proc.rst (`/proc/PID/stat`). The name in it may hold anything, so the
    fields are counted from its end.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Vitals(fields[0] in _STOPPED, (int(fields[11]) + int(fields[12])) / TICKS_PER_S)
    except (OSError, IndexError, ValueError):
        return None
