"""The figures of a run: rates, outcomes, exact percentiles, and whether the generator kept up."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from sluice.loadgen.arrivals import Times
from sluice.loadgen.ledger import LOST, TIMED_OUT, UNSENT, EndedRequests, Flags

OK = range(200, 300)
REFUSED = (429, 503, 504)

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

MAX_LAG_P99_MS = 5.0
MAX_WAITED_SHARE = 0.001
"""A generator that sends later than this, or has no connection free for more requests, has not offered its load."""


class CountedWindow(msgspec.Struct, frozen=True):
    """The part of a run that counts, in seconds from its beginning. What comes before it warms the server up."""

    begin_s: float
    end_s: float


class Spread(msgspec.Struct, frozen=True):
    """How milliseconds were spread, over every single sample. Percentiles between two samples are interpolated."""

    samples: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float


class Counts(msgspec.Struct, frozen=True):
    """Where requests went: `offered = unsent + lost + timed_out + sum(statuses.values())`.

    `unsent` found no free connection in time, `lost` ended with their connection, `timed_out` had no answer in time.
    `waited` were due while no connection was free; the latency of those that were sent later counts from when they
    were due.
    """

    offered: int
    unsent: int
    lost: int
    timed_out: int
    waited: int
    statuses: Mapping[int, int]

    @property
    def astray(self) -> int:
        """Those that were neither answered with 2xx nor refused."""
        return self.offered - sum(
            number for status, number in self.statuses.items() if status in OK or status in REFUSED
        )


class Figures(msgspec.Struct, frozen=True):
    """The requests of a window.

    `counts`, `good_share` and all spreads are about the requests that were due in it; `answered_per_s`, `ok_per_s` and
    `goodput_per_s` about the answers that came in it: any, those with a status of 2xx, those of them within the
    objective. `good_share` is the part of the requests that was answered with 2xx within the objective.

    Latencies count from the intended time. `lag` is by how much later than intended the generator sent those requests
    for which a connection was free. `faults` says why the figures must not be believed; empty if they may.
    """

    counts: Counts
    offered_per_s: float
    answered_per_s: float
    ok_per_s: float
    goodput_per_s: float
    good_share: float
    refused_share: float
    ok: Spread | None
    refused: Spread | None
    lag: Spread | None
    faults: tuple[str, ...]


def figures(requests: EndedRequests, window: CountedWindow, objective_s: float = math.inf) -> Figures:
    """The figures of the requests of a window."""
    due = _within(requests.intended_s, window)
    came = _within(requests.done_s, window) & (requests.outcome > 0)
    ok = (requests.outcome >= OK.start) & (requests.outcome < OK.stop)
    refused = np.isin(requests.outcome, REFUSED)
    latency_s = requests.latency_s()
    good = ok & (latency_s <= objective_s)
    length_s = window.end_s - window.begin_s
    sent = due & (requests.outcome != UNSENT) & ~requests.waited
    lag = spread((requests.sent_s - requests.intended_s)[sent])
    counts = count(requests, due)
    return Figures(
        counts=counts,
        offered_per_s=counts.offered / length_s,
        answered_per_s=int(came.sum()) / length_s,
        ok_per_s=int((came & ok).sum()) / length_s,
        goodput_per_s=int((came & good).sum()) / length_s,
        good_share=float(good[due].mean()) if due.any() else 0.0,
        refused_share=float(refused[due].mean()) if due.any() else 0.0,
        ok=spread(latency_s[due & ok]),
        refused=spread(latency_s[due & refused]),
        lag=lag,
        faults=(*lateness(lag), *waiting(counts)),
    )


def count(requests: EndedRequests, which: Flags | slice = slice(None)) -> Counts:
    """Where these of the requests went; all, if not said."""
    outcomes, numbers = np.unique(requests.outcome[which], return_counts=True)
    found: dict[int, int] = dict(zip(outcomes.tolist(), numbers.tolist(), strict=True))
    return Counts(
        offered=sum(found.values()),
        unsent=found.pop(UNSENT, 0),
        lost=found.pop(LOST, 0),
        timed_out=found.pop(TIMED_OUT, 0),
        waited=int(requests.waited[which].sum()),
        statuses=found,
    )


def spread(seconds: Times) -> Spread | None:
    """The spread of samples in seconds; `None` of no samples."""
    if not len(seconds):
        return None
    p50, p90, p95, p99, p99_9 = (np.percentile(seconds, PERCENTILES) * 1e3).tolist()
    return Spread(len(seconds), float(seconds.mean()) * 1e3, p50, p90, p95, p99, p99_9, float(seconds.max()) * 1e3)


def _within(seconds: Times, window: CountedWindow) -> Flags:
    return (seconds >= window.begin_s) & (seconds < window.end_s)


def lateness(lag: Spread | None) -> list[str]:
    """The fault of a generator that was late, if it was."""
    if lag is None:
        return ["no request was sent at its time"]
    if lag.p99_ms > MAX_LAG_P99_MS:
        return [f"the generator did not keep up: it sent {lag.p99_ms:.1f} ms late (p99)"]
    return []


def waiting(counts: Counts) -> list[str]:
    """The fault of too few connections, if they were."""
    if counts.waited > MAX_WAITED_SHARE * counts.offered:
        share = f"{counts.waited} of {counts.offered} requests"
        return [f"{share} waited for a free connection: it takes more of them, or the server was away"]
    return []
