"""What became of what was sent: counts by kind and by answer, and the inputs that were answered as none should be."""

from __future__ import annotations

import os
from base64 import b64encode
from collections import Counter
from pathlib import Path

SEED = int(os.environ.get("HOSTILE_SEED", "0")) or int.from_bytes(os.urandom(4))
"""`HOSTILE_SEED` makes a run again, as far as what is sent goes."""

SCALE = float(os.environ.get("HOSTILE_SCALE", "1"))
"""`HOSTILE_SCALE=0.01` sends a hundredth of a whole run's inputs."""

KEPT = 20
REFUSALS = frozenset({"503", "504", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""Answers of a server that is busy: no fault, and counted apart."""

FAULTS = frozenset({"UNKNOWN", "INTERNAL", "DATA_LOSS"})


class Tally:
    """Counts of one storm. `faults` tells the first of them in words, with their inputs in base64."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.told: list[str] = []
        self.worst_s = 0.0

    def sent(self, kind: str, times: int = 1) -> None:
        self.inputs[kind] += times

    def answered(self, status: str, seconds: float = 0.0) -> bool:
        """Count an answer. Whether it is one that no caller should be able to bring about."""
        self.answers[status] += 1
        self.worst_s = max(self.worst_s, seconds)
        return status in FAULTS or (status.startswith("5") and status not in REFUSALS)

    def fault(self, what: str, content: bytes = b"") -> None:
        self.faults[what] += 1
        if len(self.told) < KEPT and self.faults[what] <= 5:
            self.told.append(f"{self.name}: {what}: {b64encode(content[:20_000]).decode()}")

    @property
    def total(self) -> int:
        return self.inputs.total()

    def write(self, folder: Path) -> None:
        """The faults, in a file of the folder."""
        if self.told:
            (folder / f"{self.name}-faults.txt").write_text("\n".join(self.told) + "\n")

    def line(self) -> str:
        """A row of the table of figures."""
        refused = sum([self.answers[status] for status in REFUSALS])
        kinds = ", ".join([f"{kind} {count:,}" for kind, count in self.inputs.most_common()])
        answers = ", ".join([f"{status} {count:,}" for status, count in self.answers.most_common()])
        faults = self.faults.total()
        return f"| {self.name} | {self.total:,} | {kinds} | {answers} | {refused:,} | {faults:,} | {self.worst_s:.2f} |"


HEADING = "| storm | inputs | kinds | answers | for want of room or time | faults | longest s |\n" + "| --- " * 7 + "|"
