"""How much looking at rows again may cost. Pure: costs are arguments, and there is no clock."""

from __future__ import annotations

SAVED_LOOKS = 8.0
"""What was not spent is kept for so many looks. More at once would be no look now and then."""

OWED_LOOKS = 64.0
"""What follows a suspicion may cost so many looks before it is earned: answers may be wrong until it is cleared up."""

ASKED_AGAIN = 4.0
"""It is asked anew after so many batches at the latest: what they take may have changed."""

LATEST_BATCH, LATEST_LOOK = 0.1, 0.3
"""The weight of each new batch, and of each new look, in what is known of their costs."""


class Budget:
    """The part `share` of the engine's time, for runs of rows alone. All times are in seconds.

    A look begins when as much is there as one row alone should take: at first as much as a batch, then what was
    measured. What a look costs beyond that, where a difference has to be confirmed, is owed: none begins before it is
    earned. So no more is ever spent than the share of what the engine ran for, and what one look costs with all that
    follows it; while `hurry` is on, looks begin as long as no more than `OWED_LOOKS` are owed.

    `earn` is called for every batch, and does next to nothing: the rest is done once `engine_s` has reached `from_s`.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.engine_s = 0.0
        """What the engine has run for callers."""
        self.from_s = 0.0
        """There is no look before it has run for so long."""
        self.spent_s = 0.0
        self._batches = 0
        self._settled = (0.0, 0)
        self._balance_s = 0.0
        self._batch_s = 0.0
        self._alone_part = 1.0
        self._hurried = False

    @property
    def look_s(self) -> float:
        """What the next look should take."""
        return self._batch_s * self._alone_part

    def earn(self, compute_s: float) -> None:
        """The engine has run a batch for callers."""
        self.engine_s += compute_s
        self._batches += 1

    def due(self) -> bool:
        """Whether a row of the next batch may be looked at."""
        self._settle()
        needed_s = -OWED_LOOKS * self.look_s if self._hurried else self.look_s
        if self._batch_s > 0.0 and self._balance_s >= needed_s:
            return True
        missing_s = max(0.0, needed_s - self._balance_s) / self.share
        self.from_s = self.engine_s + min(missing_s, ASKED_AGAIN * self._batch_s)
        return False

    def spend(self, compute_s: float) -> None:
        """The engine has run for a look."""
        self._settle()
        self.spent_s += compute_s
        self._balance_s -= compute_s

    def learn(self, alone_s: float, batch_s: float) -> None:
        """A row alone took `alone_s`, and the batch that it had been in `batch_s`."""
        if batch_s > 0.0:
            self._alone_part += LATEST_LOOK * (min(1.0, alone_s / batch_s) - self._alone_part)

    def hurry(self, *, on: bool) -> None:
        """Whether looks may be owed."""
        self._hurried, self.from_s = on, 0.0

    def _settle(self) -> None:
        """Take what was earned since the last time."""
        engine_s, batches = self._settled
        earned_s, ran = self.engine_s - engine_s, self._batches - batches
        if ran and earned_s > 0.0:
            weight = 1.0 - (1.0 - LATEST_BATCH) ** ran if self._batch_s else 1.0
            self._batch_s += weight * (earned_s / ran - self._batch_s)
            most_s = max(self._balance_s, SAVED_LOOKS * self.look_s)
            self._balance_s = min(self._balance_s + self.share * earned_s, most_s)
            self._settled = (self.engine_s, self._batches)
