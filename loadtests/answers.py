"""What an answer means: right, wrong, or refused for want of room."""

from __future__ import annotations

import re
from dataclasses import dataclass

from loadtests.dialects.base import Dialect, Mistake
from loadtests.models import Model

REFUSALS = frozenset({429, 503})
MAX_REASON = 160


@dataclass(frozen=True, slots=True)
class Judged:
    """`fault` is `None` for a right answer. A refusal is told apart, because it says "too much" and not "broken"."""

    fault: str | None
    refused: bool = False


RIGHT = Judged(None)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. A status of 0 means that none came; `body` then says why. `retry_after` is the header's text."""

    status: int
    body: bytes
    retry_after: str | None

    def of_prediction(self, dialect: Dialect, model: Model, rows: int) -> Judged:
        """Judged as the answer to a right call."""
        if self.status == 200:
            fault = dialect.fault(model, rows, self.body)
            return RIGHT if fault is None else Judged(f"wrong answer: {fault}")
        return self._unexpected(dialect)

    def of_mistake(self, dialect: Dialect, mistake: Mistake) -> Judged:
        """Judged as the answer to a call that was wrong on purpose: the right refusal must say what is wrong."""
        if self.status != mistake.status:
            judged = self._unexpected(dialect)
            return Judged(f"{mistake.name}: expected {mistake.status}, got {judged.fault}", judged.refused)
        return RIGHT if dialect.reason(self.body) else Judged(f"{mistake.name}: {self.status} without a reason")

    def _unexpected(self, dialect: Dialect) -> Judged:
        if self.status == 0:
            return Judged(f"no answer: {in_general(self.body.decode(errors='replace'))}")
        reason = in_general(dialect.reason(self.body))
        if self.status in REFUSALS and self.retry_after is not None:
            return Judged(f"refused: {self.status}, Retry-After {self.retry_after}: {reason}", refused=True)
        return Judged(f"{self.status}: {reason}")


def in_general(reason: str) -> str:
    """A reason without its numbers, cut short: the report then has one line for each kind of failure."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)[:MAX_REASON]
