"""What the first worker of a version does before it serves: try the model out, measure it, and plan by that."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from inference.backends.base import Backend
from inference.machine import resident_bytes
from inference.measure import INSTRUMENTS, Bounds, Instruments, Measurement, measure
from inference.plan import MOST_ROWS, Findings, PlanTerms, ServingPlan, thread_choices
from inference.reasons import make_plan
from inference.warmup import Batched, Trial, known, try_out

SLOW_LOAD_S = 2.0
"""A model that takes longer to load is not loaded again for other numbers of threads."""


class Surveyed(msgspec.Struct, frozen=True):
    """A model that is loaded as the plan says, and warm."""

    backend: Backend
    trial: Trial
    plan: ServingPlan


def survey(
    open_backend: Callable[[int], Backend],
    batched: Batched,
    terms: PlanTerms,
    instruments: Instruments = INSTRUMENTS,
) -> Surveyed:
    """Loads the model with each number of threads that is worth it, one after another, and makes the plan.

    `open_backend` loads it with so many threads. Raises what it raises, and what `try_out` raises. Never has the model
    in memory twice.
    """
    choices = thread_choices(terms)
    began_s = instruments.clock()
    backend = open_backend(choices[0])
    load_s = instruments.clock() - began_s
    trial = try_out(backend, batched)
    resident = resident_bytes()
    bounds = Bounds(None if terms.memory_bytes is None else max(0, terms.memory_bytes // (terms.count or 1) - resident))

    def measured(threads: int) -> Measurement:
        return measure(backend, trial.signature, terms.max_rows or MOST_ROWS, threads, bounds, instruments)

    measurements = [measured(choices[0])]
    unexplored = _unexplored(choices, measurements[0], load_s)
    opened = choices[0]
    if unexplored is None:
        for opened in choices[1:]:
            del backend
            backend = open_backend(opened)
            measurements.append(measured(opened))
    plan = make_plan(terms, Findings(trial.signature, trial.unbatched_because, measurements, resident, unexplored))
    if opened != plan.intra_op_threads:
        del backend
        backend = open_backend(plan.intra_op_threads)
        try_out(backend, known(trial.signature))
    return Surveyed(backend, trial, plan)


def _unexplored(choices: tuple[int, ...], first: Measurement, load_s: float) -> str | None:
    """Why the other choices are not tried; `None` where they are, or where there are none."""
    if len(choices) == 1:
        return None
    if not first.knots:
        return "the model could not be measured"
    if load_s > SLOW_LOAD_S:
        return (
            f"no other number of threads than {choices[0]} was tried: loading the model took {load_s:.1f} s, and it is "
            f"loaded once only where that takes more than {SLOW_LOAD_S:g} s"
        )
    return None
