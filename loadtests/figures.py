"""What was measured, put together from Locust's rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loadtests.scenarios import ON_PURPOSE, REFUSED


@dataclass(frozen=True, slots=True)
class Entry:
    """One of Locust's rows. `times_ms` are its response times, rounded as Locust does, and how often each was seen."""

    name: str
    requests: int
    failures: int
    times_ms: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of one run, or of a part of it.

    `refused` calls were turned away with 429 or 503 and `Retry-After`; `failed` ones went wrong in any other way.
    `times_ms` are the response times of predictions that were not refused: an answer that is quick because it is a
    refusal, or because the call was wrong on purpose, makes nothing look faster.
    """

    requests: int = 0
    failed: int = 0
    refused: int = 0
    times_ms: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Figures:
        """The sum of rows."""
        requests = failed = refused = 0
        times_ms: Counter[int] = Counter()
        for entry in entries:
            requests += entry.requests
            if entry.name.endswith(REFUSED):
                refused += entry.requests
                continue
            failed += entry.failures
            if not entry.name.endswith(ON_PURPOSE):
                times_ms.update(entry.times_ms)
        return cls(requests, failed, refused, times_ms)

    def since(self, earlier: Figures) -> Figures:
        """What has come on top of earlier figures of the same run."""
        return Figures(
            self.requests - earlier.requests,
            self.failed - earlier.failed,
            self.refused - earlier.refused,
            self.times_ms - earlier.times_ms,
        )

    @property
    def answered(self) -> int:
        """Calls that were neither refused nor failed."""
        return self.requests - self.refused - self.failed

    def percentile_ms(self, percent: float) -> int | None:
        """The smallest time within which so many percent of the predictions came; `None` if there were none."""
        missing = math.ceil(self.times_ms.total() * percent / 100)
        for time_ms in sorted(self.times_ms):
            missing -= self.times_ms[time_ms]
            if missing <= 0:
                return time_ms
        return None
