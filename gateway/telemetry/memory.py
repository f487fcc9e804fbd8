"""The memory of processes, as Linux counts it."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path


def resident_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """The resident memory of these processes together. Shared pages count for each; a process that ended counts 0."""
    pages = 0
    for pid in pids:
        try:
            pages += int((proc / str(pid) / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * resource.getpagesize()
