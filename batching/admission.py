"""Decides, when a request comes, whether it can be answered in time. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sluice.batching.curve import LatencyCurve
from sluice.batching.queue import Ahead

HOPELESS_RUNS, HOPELESS_PART = 3.0, 0.9
"""Where a request's own run takes more than `HOPELESS_PART` of the objective, the objective cannot be kept reliably. To
refuse such a request would be to refuse it always. So it is admitted if it should end within `HOPELESS_RUNS` of its
runs, and then never dropped."""


class Admission(StrEnum):
    """What admission says of a request."""

    ADMIT = "admit"
    OVERLOADED = "overloaded"
    """It would be late because of the work before it."""
    INFEASIBLE = "infeasible"
    """It would be late even if nothing else were there."""


class QueuedWork(msgspec.Struct, frozen=True):
    """What the workers have to do before a request.

    `busy_s` is for batches that are out or to be run again, `ahead` waits in the queue. `rows_per_s` is the traffic,
    whose rows come along in the request's own batch.
    """

    busy_s: float
    ahead: Ahead
    workers: int
    rows_per_s: float


def alone_s(curve: LatencyCurve, rows: int) -> float:
    """The p95 of a request's own run: in one batch, or in as many full ones as it has to be cut into."""
    if rows <= curve.max_rows:
        return curve.p95_s(rows)
    batches, rest = divmod(rows - 1, curve.max_rows)
    return batches * curve.typical_s(curve.max_rows) + curve.p95_s(rest + 1)


def finish_in_s(curve: LatencyCurve, rows: int, load: QueuedWork) -> float:
    """In how many seconds a request is answered, if it is admitted.

    It waits for the batches that are out, for other keys' work, and for the full batches that the rows ahead of it
    make; it runs with the rest of them, and with what comes in until then. All but its own batch is taken at its
    typical time: of many batches, some run longer and others shorter; its own is taken at its p95. A request with more
    rows than a full batch runs by itself.
    """
    full = curve.full_rows
    batches, together = divmod(load.ahead.rows, full)
    wait_s = load.busy_s + load.ahead.work_s + batches * curve.typical_s(full)
    if together and together + rows > full:
        wait_s += curve.typical_s(together)
        together = 0
    wait_s /= load.workers
    together += rows
    if together > full:
        return wait_s + alone_s(curve, together)
    return wait_s + curve.p95_s(min(together + int(load.rows_per_s * wait_s), full))


def verdict(curve: LatencyCurve, rows: int, own_s: float, due_s: float, load: QueuedWork) -> Admission:
    """Whether a request that is due in `due_s`, and that its caller gives up in `own_s`, is to be let in."""
    if alone_s(curve, rows) > own_s:
        return Admission.INFEASIBLE
    return Admission.ADMIT if finish_in_s(curve, rows, load) <= due_s else Admission.OVERLOADED
