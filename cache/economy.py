"""Whether a tier pays: what its lookups cost beside what they save. Pure.

A lookup of one row saves, on average, the hit ratio times what the model takes for a row. Costs and savings are both
shares of what was done for many rows at once: a batch's time divided by its rows, a round trip to Redis divided by its
keys. A tier that costs more than it saves is bypassed, but for a sample of the rows.

The sample is drawn by the rows' content and not by chance: the same rows are always in it, so that its hit ratio is
the one that all rows would have (Waldspurger, Park, Garthwaite and Ahmad, "Efficient MRC Construction with SHARDS",
FAST 2015).
"""

from __future__ import annotations

WINDOW_ROWS = 512
"""A tier is judged after this many rows; earlier observations count half from then on."""

SAMPLED = 64
"""While a tier is bypassed, one in this many rows is still looked up and stored."""

RETURN = 1.2
"""A bypassed tier is used again when it would save this many times what it costs, so that it does not flap."""

STALL = 8
"""A lookup counts at most as this many average ones: now and then the machine is busy with something else."""

JOB_S = 5e-6
"""The gateway's own time for a row that goes to the model in its own job: benchmarks/README.md, *batcher*."""


class ModelCost:
    """What the model takes per row, from the batches that rows of the cache travelled in.

    `batch_s` is what a batch costs beside the engine, in seconds.
    """

    def __init__(self, batch_s: float) -> None:
        self._batch_s = batch_s
        self._rows = 0.0
        self._spent_s = 0.0

    def computed(self, compute_s: float, batch_rows: int, rows: int) -> None:
        """So many rows were in a batch that the engine ran for `compute_s`."""
        if self._rows > WINDOW_ROWS:
            self._rows /= 2
            self._spent_s /= 2
        self._rows += rows
        self._spent_s += rows * ((compute_s + self._batch_s) / max(1, batch_rows) + JOB_S)

    @property
    def row_s(self) -> float | None:
        """Seconds per row; `None` until a row was computed."""
        return self._spent_s / self._rows if self._rows else None


class Economy:
    """The running comparison of one tier for one model version. With `adaptive` false the tier is always used."""

    def __init__(self, model: ModelCost, *, adaptive: bool) -> None:
        self._model = model
        self._adaptive = adaptive
        self._rows = self._hits = self._cost_s = 0.0
        self.pays = True
        """Whether the tier is to be used for all rows."""

    def looked_up(self, rows: int, hits: int, cost_s: float) -> None:
        """So many rows were looked up, at this cost for all of them."""
        if self._rows:
            cost_s = min(cost_s, STALL * rows * self._cost_s / self._rows)
        self._rows += rows
        self._hits += hits
        self._cost_s += cost_s
        if self._rows >= WINDOW_ROWS:
            self._judge()

    def spent(self, cost_s: float) -> None:
        """Storing has cost this much. `looked_up` has counted the rows."""
        self._cost_s += cost_s

    def saved(self, rows: int) -> None:
        """So many rows that were counted as misses need not be computed, since another request computes them."""
        self._hits += rows

    @property
    def cost_s(self) -> float | None:
        """What a lookup costs per row, storing included; `None` until there was one."""
        return self._cost_s / self._rows if self._rows else None

    @property
    def saves_s(self) -> float | None:
        """What a lookup saves per row; `None` until there was one, and a row computed."""
        row_s = self._model.row_s
        return self._hits / self._rows * row_s if self._rows and row_s is not None else None

    def _judge(self) -> None:
        cost_s, saves_s = self.cost_s, self.saves_s
        if self._adaptive and cost_s is not None and saves_s is not None:
            self.pays = saves_s >= cost_s * (1.0 if self.pays else RETURN)
        self._rows /= 2
        self._hits /= 2
        self._cost_s /= 2
