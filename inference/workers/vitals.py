"""The state of a process, as the kernel reports it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

LOOK_S = 1.0
"""How often a worker is looked at while it loads or runs."""

STOPPED_LOOKS = 2
"""A worker that is found stopped in so many looks in a row is replaced. One look is not enough: a profiler may stop a
process for a moment."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOPPED = frozenset("Tt")


class Vitals(msgspec.Struct, frozen=True):
    """What one look shows. `stopped`: by a signal or a debugger. `cpu_s`: the processor time of all its threads."""

    stopped: bool
    cpu_s: float


def vitals(pid: int) -> Vitals | None:
    """The state of a process; `None` if it does not exist or cannot be seen.

    Source: the kernel's Documentation/filesystems/proc.rst (`/proc/PID/stat`). The process name in it may contain any
    character, so the fields are counted from the end of the name.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Vitals(fields[0] in _STOPPED, (int(fields[11]) + int(fields[12])) / TICKS_PER_S)
    except (OSError, IndexError, ValueError):
        return None
