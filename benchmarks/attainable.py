"""What a server that errs never would make of a schedule."""

from __future__ import annotations

import numpy as np

from sluice.loadgen.arrivals import Times


def attainable(intended: Times, capacity_per_s: float, objective_s: float) -> Times:
    """When a server that answers one request every `1 / capacity_per_s` seconds gives its answers, if it errs never.

    It answers in order, refuses exactly those that it could not answer in time, and refusing costs it nothing. For
    requests of one size and one objective, nothing answers more of them in time. What bursts leave attainable is less
    than the capacity: nobody can work on requests that have not come yet.
    """
    answered: list[float] = []
    free_s = 0.0
    for at_s in intended.tolist():
        done_s = max(at_s, free_s) + 1 / capacity_per_s
        if done_s <= at_s + objective_s:
            answered.append(done_s)
            free_s = done_s
    return np.array(answered)
