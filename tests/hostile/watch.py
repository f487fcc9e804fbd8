"""What a gateway under attack must keep: its process, its memory, its descriptors, its queues, and a clean log."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import msgspec
import psutil

from tests.integration.server import SluiceProcess

HELD = re.compile(r"(?m)^(sluice_(?:queue|batches_in_flight|held|buffered|waiting)\w*)(?:\{[^}]*\})? (\S+)")
"""Gauges of what waits or is held for callers: all of it is gone when they are."""

SLACK_BYTES = 256 << 20
"""What the gateway may hold above its start: the cache (64 MiB), and what allocators keep of the largest bodies."""

SLACK_DESCRIPTORS = 16
BACK_S = 60.0


class State(msgspec.Struct, frozen=True):
    """One look at the gateway's process."""

    resident_bytes: float
    descriptors: int
    held: dict[str, float]


class Watch:
    """Looks at one gateway from outside. `log` is the file that its standard error goes to."""

    def __init__(self, server: SluiceProcess, log: Path) -> None:
        self._server, self._log = server, log
        self._process = psutil.Process(server.process.pid)

    def state(self) -> State:
        text = self._server.client.get("/metrics").text
        held = Counter[str]()
        for name, value in HELD.findall(text):
            held[name] += float(value)  # type: ignore[assignment]  # bytes and rows are whole
        return State(self._process.memory_info().rss, self._process.num_fds(), {k: v for k, v in held.items() if v})

    def back(self, start: State) -> State:
        """The state once it is what it was at the start, within the slack, or when that has not come in time."""
        until_s = time.monotonic() + BACK_S
        while True:
            now = self.state()
            if not self.missed(start, now) or time.monotonic() > until_s:
                return now
            time.sleep(0.25)

    def missed(self, start: State, now: State) -> list[str]:
        """What is not back where it was."""
        found = []
        if now.resident_bytes > start.resident_bytes + SLACK_BYTES:
            found.append(f"memory: {start.resident_bytes / 1e6:.0f} MB, then {now.resident_bytes / 1e6:.0f} MB")
        if now.descriptors > start.descriptors + SLACK_DESCRIPTORS:
            found.append(f"descriptors: {start.descriptors}, then {now.descriptors}")
        if now.held:
            found.append(f"held: {now.held}")
        return found

    def alive(self) -> bool:
        return self._server.process.poll() is None

    def log_faults(self, *expected: str) -> list[str]:
        """Lines that are no JSON, and those of level error or with a traceback whose event is not expected."""
        return log_faults(self._log, *expected)


def log_faults(log: Path, *expected: str) -> list[str]:
    """As `Watch.log_faults`, of any log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
            event, level = said["event"], said["level"]
        except (ValueError, KeyError, TypeError):
            found.append(f"no line of JSON: {line[:300]}")
            continue
        if (level in {"error", "critical"} or "exception" in said) and event not in expected:
            found.append(line[:2000])
    return found
