"""How well a policy did. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.simulation.arrivals import Request
from benchmarks.simulation.ideal import ideal_rows
from benchmarks.simulation.ledger import Fate, Ledger
from benchmarks.simulation.scenarios import Scenario
from benchmarks.simulation.server import Ran
from benchmarks.simulation.spare import Spare

Floats = npt.NDArray[np.float64]


class Score(msgspec.Struct, frozen=True):
    """One policy in one scenario. Shares are of rows where they say so, otherwise of requests.

    `goodput` is the rows per second that were answered within the objective, over the length of the arrivals;
    `of_offered` and `of_ideal` are the same as shares of the rows offered, and of what the fluid server of
    `simulation.ideal` answers. `p50_s` and `p99_s` are of the answered requests, from arrival; `None` if there are
    none. `late` were answered after the objective, `refused` were not taken, `dropped` given up later; these three are
    shares of all requests. `told_s` is the median time from arrival until a refused or dropped request ended, `None` if
    there are none. `shed_precision` is the share of the refused and dropped that could not have been served, as
    `simulation.spare` defines it; 1 if none was. `by_client` has the goodput of each client as a share of its own
    offered rows.
    """

    scenario: str
    policy: str
    requests: int
    goodput: float
    of_offered: float
    of_ideal: float
    p50_s: float | None
    p99_s: float | None
    late: float
    refused: float
    dropped: float
    told_s: float | None
    batch_rows: float
    busy: float
    shed_precision: float
    by_client: Mapping[str, float]


MEASURES = tuple(
    [name for name in Score.__struct_fields__ if name not in ("scenario", "policy", "requests", "by_client")]
)


def score(policy: str, scenario: Scenario, ledger: Ledger, ran: Sequence[Ran], ideal: int | None = None) -> Score:
    """The score of a finished run. `ideal` is what `ideal_rows` gives, where it is known already."""
    requests = ledger.requests
    fates, ended_s = ledger.fates(), ledger.ended_s()
    arrived_s = np.array([request.arrived_s for request in requests])
    rows = np.array([request.rows for request in requests])
    answered = fates == Fate.ANSWERED
    latencies_s = (ended_s - arrived_s)[answered]
    good = answered & (ended_s - arrived_s <= scenario.objective_s)
    shed = (fates == Fate.REFUSED) | (fates == Fate.DROPPED)
    good_rows, span_s = int(rows[good].sum()), scenario.duration_s
    if ideal is None:
        ideal = ideal_rows(requests, scenario.machine, scenario.objective_s)
    busy_s = sum([batch.ended_s - batch.started_s for batch in ran])
    return Score(
        scenario=scenario.name,
        policy=policy,
        requests=len(requests),
        goodput=good_rows / span_s,
        of_offered=good_rows / int(rows.sum()),
        of_ideal=good_rows / ideal,
        p50_s=_percentile(latencies_s, 50),
        p99_s=_percentile(latencies_s, 99),
        late=float((answered & ~good).mean()),
        refused=float((fates == Fate.REFUSED).mean()),
        dropped=float((fates == Fate.DROPPED).mean()),
        told_s=_percentile((ended_s - arrived_s)[shed], 50),
        batch_rows=sum([batch.rows for batch in ran]) / max(len(ran), 1),
        busy=busy_s / (scenario.machine.workers * max(span_s, max([batch.ended_s for batch in ran], default=0.0))),
        shed_precision=_shed_precision(requests, fates, ran, scenario),
        by_client=_by_client(requests, rows, good),
    )


def mean(scores: Sequence[Score]) -> list[Score]:
    """One score for each scenario and policy, in their order: the means over the seeds with which they were run."""
    together: dict[tuple[str, str], list[Score]] = {}
    for each in scores:
        together.setdefault((each.scenario, each.policy), []).append(each)
    return [_mean(group) for group in together.values()]


def _mean(group: Sequence[Score]) -> Score:
    first, count = group[0], len(group)
    shares = {client: sum([each.by_client[client] for each in group]) / count for client in first.by_client}
    changes: dict[str, object] = {"by_client": shares}
    for name in MEASURES:
        values = [getattr(each, name) for each in group]
        changes[name] = None if None in values else sum(values) / count
    return msgspec.structs.replace(first, **changes)


def _shed_precision(
    requests: Sequence[Request], fates: npt.NDArray[np.uint8], ran: Sequence[Ran], scenario: Scenario
) -> float:
    shed = np.flatnonzero((fates == Fate.REFUSED) | (fates == Fate.DROPPED))
    if not shed.size:
        return 1.0
    until_s = max([scenario.duration_s, *[batch.ended_s for batch in ran]]) + scenario.objective_s
    spare = Spare(ran, scenario.machine, until_s)
    asked = [requests[int(index)] for index in shed]
    served = sum([spare.could_serve(each, each.arrived_s + scenario.objective_s) for each in asked])
    return 1.0 - served / shed.size


def _by_client(
    requests: Sequence[Request], rows: npt.NDArray[np.int_], good: npt.NDArray[np.bool_]
) -> Mapping[str, float]:
    clients = np.array([request.client for request in requests])
    names = sorted(set(clients.tolist()) - {""})
    return {name: float(rows[good & (clients == name)].sum() / rows[clients == name].sum()) for name in names}


def _percentile(values: Floats, share: float) -> float | None:
    return float(np.percentile(values, share)) if values.size else None
