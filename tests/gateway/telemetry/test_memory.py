"""Memory of processes."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from sluice.gateway.telemetry.memory import resident_bytes


def test_this_process_has_some() -> None:
    assert 10_000_000 < resident_bytes([os.getpid()]) < 100_000_000_000


def test_those_that_ended_count_nothing(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("900 100 20 1 0 3 0\n")
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "statm").write_text("")
    assert resident_bytes([7, 8, 9], tmp_path) == 100 * resource.getpagesize()
