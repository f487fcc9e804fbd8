"""What a load generator saw: every request from its intended time to its answer, and what that adds up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np

from benchmarks.arrivals import Times

OK = 200
REFUSED = (503, 504)

MAX_LAG_P99_S = 0.005
MAX_WAITED_SHARE = 0.001
"""A generator that sends later than this, or has no connection free for more requests, has not offered its load."""


class Window(msgspec.Struct, frozen=True):
    """The part of a run that counts, in seconds from its beginning. What comes before is to warm up."""

    begin_s: float
    end_s: float


class Offered(msgspec.Struct, frozen=True):
    """The intended times of a run, from its beginning, and how many of the first of them were sent."""

    due_s: Times
    sent: int


class Spread(msgspec.Struct, frozen=True):
    """How milliseconds were spread, over every single sample."""

    samples: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Counts(msgspec.Struct, frozen=True):
    """Where the requests of a whole run went: `offered = unsent + lost + unanswered + sum(statuses.values())`.

    `lost` ended with their connection, `unanswered` had no answer when the generator's patience was over. `waited` were
    due while no connection was free; they were sent later, and their latency counts from when they were due.
    """

    offered: int
    unsent: int
    lost: int
    unanswered: int
    waited: int
    statuses: Mapping[int, int]


class Seen(msgspec.Struct, frozen=True):
    """One run. All but `counts` is about its window.

    Latencies count from the intended time. `goodput_per_s` are the answers that came in the window and within the
    objective; `ok_per_s` those that came in the window. `lag` is by how much later than intended requests were sent.
    `faults` says why the run must not be believed; empty if it may.
    """

    counts: Counts
    offered_per_s: float
    ok_per_s: float
    goodput_per_s: float
    refused_share: float
    ok: Spread | None
    refused: Spread | None
    lag: Spread | None
    cpu_s: float
    faults: tuple[str, ...]


class Ledger:
    """Takes down every request of a run. Times are on one monotonic clock."""

    def __init__(self) -> None:
        self._answers: list[tuple[float, float, float, int]] = []
        self.lost = 0
        self.waited = 0

    def answered(self, intended_s: float, sent_s: float, done_s: float, status: int) -> None:
        """An answer has come whole."""
        self._answers.append((intended_s, sent_s, done_s, status))

    def __len__(self) -> int:
        return len(self._answers)

    def closed(self, offered: Offered, begun_s: float, window: Window, objective_s: float, cpu_s: float) -> Seen:
        """The sums, after a run that began at `begun_s` and cost the generator `cpu_s` of processor time."""
        table = np.array(self._answers, np.float64).reshape(-1, 4)
        intended, sent_at, done = (table[:, :3] - begun_s).T
        status = table[:, 3].astype(int)
        latency_s = done - intended
        counts = Counts(
            offered=len(offered.due_s),
            unsent=len(offered.due_s) - offered.sent,
            lost=self.lost,
            unanswered=offered.sent - self.lost - len(table),
            waited=self.waited,
            statuses=dict(sorted(Counter(status.tolist()).items())),
        )
        due = _within(intended, window)
        came = _within(done, window)
        length_s = window.end_s - window.begin_s
        refused = np.isin(status, REFUSED)
        lag = spread((sent_at - intended)[due])
        return Seen(
            counts=counts,
            offered_per_s=int(_within(offered.due_s, window).sum()) / length_s,
            ok_per_s=int((came & (status == OK)).sum()) / length_s,
            goodput_per_s=int((came & (status == OK) & (latency_s <= objective_s)).sum()) / length_s,
            refused_share=float(refused[due].mean()) if due.any() else 0.0,
            ok=spread(latency_s[due & (status == OK)]),
            refused=spread(latency_s[due & refused]),
            lag=lag,
            cpu_s=cpu_s,
            faults=tuple(_faults(counts, lag)),
        )


def spread(seconds: Times) -> Spread | None:
    """The spread of samples in seconds; `None` of no samples."""
    if not len(seconds):
        return None
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1e3
    return Spread(
        len(seconds), float(seconds.mean()) * 1e3, float(p50), float(p90), float(p99), float(seconds.max()) * 1e3
    )


def _within(seconds: Times, window: Window) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    inside: np.ndarray[tuple[int], np.dtype[np.bool_]] = (seconds >= window.begin_s) & (seconds < window.end_s)
    return inside


def _faults(counts: Counts, lag: Spread | None) -> list[str]:
    others = sum(count for status, count in counts.statuses.items() if status != OK and status not in REFUSED)
    failed = counts.unsent + counts.lost + counts.unanswered + others
    faults = []
    if failed:
        faults.append(f"{failed} requests were neither answered nor refused: {counts}")
    if counts.waited > MAX_WAITED_SHARE * counts.offered:
        faults.append(f"{counts.waited} of {counts.offered} requests waited for a free connection; open more")
    if lag is None:
        faults.append("no request was answered in the window")
    elif lag.p99_ms > MAX_LAG_P99_S * 1e3:
        faults.append(f"requests were sent {lag.p99_ms:.1f} ms late (p99); the generator did not keep up")
    return faults
