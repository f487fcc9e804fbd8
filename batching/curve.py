"""How long a batch runs, by its rows: learned from measurements at load and from every batch since. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from sluice.batching.curve_shape import bend, place_of, rows_within, value_at, values_at
from sluice.batching.window import RecentValues
from sluice.inference.types import Knot, knot_rows

SPEED_WINDOW = 15
"""The batches whose median gives the engine's present speed: eight in a row show a change, seven are outliers."""

SEED_WEIGHT = 4
"""The measurement at load counts as this many batches at first, so that one unlucky batch does not outweigh it."""

TAIL_WINDOW = 64
TAIL_MINIMUM = 20
TAIL_DEFAULT = 1.1
TAIL_LARGEST = 4.0
"""The p95 is a multiple of the typical time: that of the latest batches of about the same rows, once there are enough
of them, and otherwise that of the nearest rows with enough."""

GAIN = 0.05
STEEPEST = 1.5
"""A batch moves the knots beside it by so much of its difference, which counts as no more than this factor."""

FLAT = 1.25
"""Where one row takes up the budget, the budget grows by this factor: up to there, more rows cost hardly anything."""

STALE_S = 1.0
REFUSED_PER_PROBE = 100
DOUBT = 0.8
"""A curve that no batch has confirmed for so long, or that has refused so many at a worker that has nothing to do, lets
one in against its prediction: see `probe`. One that ran in less than this part of it is followed by another at once."""


class LatencyCurve:
    """The run time of a batch by its rows, for one version and shape key: piecewise linear over 1, 2, 4, … `max_rows`.

    Typical time = speed x shape(rows), and p95 = typical time x tail(rows); both never fall. The shape is seeded by
    `seed`, and moved slowly by each batch at the knots beside its rows. The speed, one factor for all rows, is the
    median over the latest batches: an outlier does not move it, and a throttled processor or a noisy neighbour is known
    after half of `SPEED_WINDOW`, whatever the sizes. The tail is the 95th percentile of what recent batches took,
    relative to what was typical. Shape and tail learn from a batch only when the median has as many batches after it as
    before: so a change of speed is not taken for either.

    Without a seed it is not `known`, and predicts 0 until the first batch. All times are in seconds.
    """

    full_rows: int
    """The rows of a full batch: the most whose p95 is within the budget, or little more than that of a single row."""

    row_s: float
    """What a row takes in a full batch."""

    full_p95_s: float
    """The p95 of a full batch."""

    def __init__(self, max_rows: int, seed: Sequence[Knot] = (), budget_s: float = math.inf) -> None:
        self.known = bool(seed)
        self._rows = knot_rows(max_rows)
        self._shape = values_at(seed, self._rows)
        self._budget_s = budget_s
        self._most_together = max_rows
        self._speed = 1.0
        self._speeds = RecentValues(SPEED_WINDOW, [1.0] * SEED_WEIGHT if seed else [])
        self._skew = 0.0
        self._to_learn: deque[tuple[int, float]] = deque()
        self._tails = [RecentValues(TAIL_WINDOW) for _ in self._rows]
        self._known_tails: dict[int, float] = {}
        self._tail = [TAIL_DEFAULT] * len(self._rows)
        self._batches = 0
        self._confirmed_s = -math.inf
        self._refused = 0
        self._doubted = False
        self._settle()

    @property
    def confirmed(self) -> bool:
        """Whether it rests on enough batches to tell a stuck one from a slow one."""
        return self._batches >= SPEED_WINDOW

    def unbatch(self) -> None:
        """Full is one row from now on. What a run of more rows takes is known as before."""
        self._most_together = 1
        self._settle()

    @property
    def max_rows(self) -> int:
        """The most rows of any batch."""
        return self._rows[-1]

    def probe(self, now_s: float) -> bool:
        """Whether a request is to be let in against the prediction, to see if it still holds. Asked of each in turn.

        A curve that refuses every request learns nothing more, so a wrong one would stay wrong. At worst, one request
        in `REFUSED_PER_PROBE` is late, or one in `STALE_S` where few come. While probes are quicker than predicted,
        they follow each other, so that half of `SPEED_WINDOW` have soon run and correct the curve.
        """
        self._refused += 1
        due = self._refused > REFUSED_PER_PROBE or now_s - self._confirmed_s > STALE_S
        if not (due or self._doubted):
            return False
        self._refused = 0
        self._confirmed_s = now_s
        return True

    def typical_s(self, rows: int) -> float:
        """What a batch of so many rows usually takes; rows beyond `max_rows` count as `max_rows`."""
        return value_at(self._rows, self._typical, rows)

    def p95_s(self, rows: int) -> float:
        """What 95 of 100 batches of so many rows do not exceed."""
        return value_at(self._rows, self._p95, rows)

    def rows_within(self, seconds: float) -> int:
        """The most rows whose p95 is within so many seconds; 0 if not even one row is."""
        return rows_within(self._rows, self._p95, seconds)

    def rows_to_keep_up(self, rows_per_s: float) -> int:
        """The first knot at which one worker keeps up with such traffic, or `full_rows`."""
        for rows, typical_s in zip(self._rows, self._typical, strict=True):
            if rows >= self.full_rows or rows >= rows_per_s * typical_s:
                return min(rows, self.full_rows)
        return self.full_rows

    def predictions(self) -> tuple[Knot, ...]:
        """The p95 at each knot, as it is now."""
        return tuple([Knot(rows, p95_s) for rows, p95_s in zip(self._rows, self._p95, strict=True)])

    def observe(self, rows: int, run_s: float, now_s: float) -> None:
        """Learn from a batch that ran for `run_s`."""
        if rows < 1 or run_s <= 0.0:
            return
        if not self.known:
            self._scale_to(rows, run_s)
        self._doubted = run_s < DOUBT * self.typical_s(rows)
        self._speeds.add(run_s / value_at(self._rows, self._shape, rows))
        self._speed = self._speeds.percentile(0.5)
        self._to_learn.append((rows, run_s))
        if len(self._to_learn) > SPEED_WINDOW // 2:
            self._learn(*self._to_learn.popleft())
        self._batches += 1
        self._confirmed_s = now_s
        self._settle()

    def _scale_to(self, rows: int, run_s: float) -> None:
        factor = run_s / value_at(self._rows, self._shape, rows)
        self._shape = [factor * value for value in self._shape]
        self.known = True

    def _learn(self, rows: int, run_s: float) -> None:
        surprise = run_s / (self._speed * value_at(self._rows, self._shape, rows))
        # The speed is a median and surprises are skewed: what they have in common for all rows would add up for ever,
        # and leave the rows that no batch has far behind. The shape is what one size has beside the others. The sum of
        # these steps is the skew itself, and stays small as that is; so they must be steps of the logarithm.
        beside = min(max(surprise, 1 / STEEPEST), STEEPEST) - 1.0 - self._skew
        self._skew += GAIN * beside
        bend(self._rows, self._shape, rows, math.exp(GAIN * beside))
        place = place_of(self._rows, rows)[0]
        tails = self._tails[place]
        tails.add(surprise)
        if len(tails) < TAIL_MINIMUM:
            return
        tail = min(max(tails.percentile(0.95), 1.0), TAIL_LARGEST)
        if tail != self._known_tails.get(place):
            self._known_tails[place] = tail
            self._tail = [self._nearest_tail(each) for each in range(len(self._rows))]

    def _nearest_tail(self, place: int) -> float:
        return self._known_tails[min(self._known_tails, key=lambda known: abs(known - place))]

    def _settle(self) -> None:
        """Work out what follows from speed, shape and tail."""
        speed = self._speed if self.known else 0.0
        self._typical = [speed * value for value in self._shape]
        self._p95 = [tail * value for tail, value in zip(self._tail, self._typical, strict=True)]
        for place in range(1, len(self._p95)):
            if self._p95[place] < self._p95[place - 1]:
                self._p95[place] = self._p95[place - 1]
        full_rows = max(1, self.rows_within(max(self._budget_s, FLAT * self._p95[0])))
        self.full_rows = min(full_rows, self._most_together)
        full_s = self.typical_s(self.full_rows)
        self.row_s = full_s / self.full_rows
        self.full_p95_s = self.p95_s(self.full_rows)
