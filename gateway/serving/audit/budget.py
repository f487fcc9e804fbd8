"""How much engine time audits may cost. Pure: costs are arguments, and there is no clock."""

from __future__ import annotations

SAVED_LOOKS = 8.0
"""Time that is not spent is saved for so many looks at most, so that they never come in a long row."""

OWED_LOOKS = 64.0
"""Looks that follow a suspicion may run ahead of the budget by so many: answers may be wrong until it is cleared up."""

ASKED_AGAIN = 4.0
"""The budget is computed anew after so many batches at the latest, since their run time may have changed."""

LATEST_BATCH, LATEST_LOOK = 0.1, 0.3
"""The weights of each new batch and of each new look in the moving averages of their costs."""


class Budget:
    """The budget of looks: the part `share` of the engine's time. All times are in seconds.

    A look begins when the balance covers the expected run of one row alone: at first as much as a batch takes, then
    what was measured. If a difference has to be confirmed, a look costs more than that; the balance is then negative,
    and the next look waits until it is earned. So the total never exceeds the share of the engine's time by more than
    one look with its confirmation. While `hurry` is on, looks begin as long as no more than `OWED_LOOKS` are owed.

    `earn` is called for every batch, and is cheap: the rest is computed once `engine_s` has reached `from_s`.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.engine_s = 0.0
        """How long the engine has run for callers."""
        self.from_s = 0.0
        """No look is due before `engine_s` has reached this."""
        self.spent_s = 0.0
        self._batches = 0
        self._settled = (0.0, 0)
        self._balance_s = 0.0
        self._batch_s = 0.0
        self._alone_part = 1.0
        self._hurried = False

    @property
    def look_s(self) -> float:
        """The expected cost of the next look."""
        return self._batch_s * self._alone_part

    def earn(self, compute_s: float) -> None:
        """Take note of a batch that the engine has run for callers."""
        self.engine_s += compute_s
        self._batches += 1

    def due(self) -> bool:
        """Whether a row of the next batch may be audited."""
        self._settle()
        needed_s = -OWED_LOOKS * self.look_s if self._hurried else self.look_s
        if self._batch_s > 0.0 and self._balance_s >= needed_s:
            return True
        missing_s = max(0.0, needed_s - self._balance_s) / self.share
        self.from_s = self.engine_s + min(missing_s, ASKED_AGAIN * self._batch_s)
        return False

    def spend(self, compute_s: float) -> None:
        """Take note of engine time that a look has cost."""
        self._settle()
        self.spent_s += compute_s
        self._balance_s -= compute_s

    def learn(self, alone_s: float, batch_s: float) -> None:
        """Learn that a row alone took `alone_s`, and its batch `batch_s`."""
        if batch_s > 0.0:
            self._alone_part += LATEST_LOOK * (min(1.0, alone_s / batch_s) - self._alone_part)

    def hurry(self, *, on: bool) -> None:
        """Set whether looks may run ahead of the budget."""
        self._hurried, self.from_s = on, 0.0

    def _settle(self) -> None:
        """Add what was earned since the last time."""
        engine_s, batches = self._settled
        earned_s, ran = self.engine_s - engine_s, self._batches - batches
        if ran and earned_s > 0.0:
            weight = 1.0 - (1.0 - LATEST_BATCH) ** ran if self._batch_s else 1.0
            self._batch_s += weight * (earned_s / ran - self._batch_s)
            most_s = max(self._balance_s, SAVED_LOOKS * self.look_s)
            self._balance_s = min(self._balance_s + self.share * earned_s, most_s)
            self._settled = (self.engine_s, self._batches)
