"""What the first worker of a version does before it serves: it tries the model, measures it, and makes the plan."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sluice.inference.backends.base import Backend
from sluice.inference.planning.machine import resident_bytes
from sluice.inference.planning.measure import (
    ALWAYS,
    BUDGET_S,
    INSTRUMENTS,
    Instruments,
    Measurement,
    MeasuringBounds,
    measure,
)
from sluice.inference.planning.plan import MOST_ROWS, PlanGrounds, thread_choices
from sluice.inference.planning.reasons import make_plan, span
from sluice.inference.planning.warmup import Trial, warm
from sluice.inference.serving_plan import PlanTerms, ServingPlan

SLOW_LOAD_S = 2.0
"""A model that takes longer to load is not loaded again to measure other numbers of threads."""

SURVEY_S = 10.0
"""How long measuring all numbers of threads may take, without loading. Only the two smallest sizes with the first
number of threads are measured even if they take longer."""


class Surveyed(msgspec.Struct, frozen=True):
    """A model that is loaded with the plan's number of threads, and warm."""

    backend: Backend
    trial: Trial
    plan: ServingPlan


def survey(
    open_backend: Callable[[int], Backend],
    try_out: Callable[[Backend], Trial],
    terms: PlanTerms,
    instruments: Instruments = INSTRUMENTS,
) -> Surveyed:
    """Loads and measures the model with each number of threads that is worth it, one after another. Makes the plan.

    The largest number comes first, since a slow model may leave no time for others. `open_backend` loads the model with
    a number of threads; `try_out` is called once. Raises what these raise. The model is never in memory twice.
    """
    choices = thread_choices(terms)
    began_s = instruments.clock()
    backend = open_backend(choices[0])
    load_s = instruments.clock() - began_s
    trial = try_out(backend)
    resident = resident_bytes()
    bounds = MeasuringBounds(
        None if terms.memory_bytes is None else max(0, terms.memory_bytes // (terms.count or 1) - resident)
    )
    most_rows = terms.max_rows or MOST_ROWS
    measurements: list[Measurement] = []
    spent_s = 0.0
    opened = choices[0]
    unexplored: str | None = None
    for threads in choices:
        if measurements:
            unexplored = _unexplored(measurements[-1], threads, load_s, SURVEY_S - spent_s)
            if unexplored is not None:
                break
            left_s = SURVEY_S - spent_s
            bounds = MeasuringBounds(bounds.grown_bytes, min(BUDGET_S, left_s), left_s)
            del backend
            backend, opened = open_backend(threads), threads
        began_s = instruments.clock()
        measurements.append(measure(backend, trial.signature, most_rows, threads, bounds, instruments, trial.taken))
        spent_s += instruments.clock() - began_s
    shapes = None if trial.taken is None else trial.taken.shapes
    because = trial.findings.because
    plan = make_plan(terms, PlanGrounds(trial.signature, because, measurements, resident, unexplored, shapes))
    if opened != plan.intra_op_threads:
        del backend
        backend = open_backend(plan.intra_op_threads)
        warm(backend, trial.signature, trial.taken)
    return Surveyed(backend, trial, plan)


def _unexplored(last: Measurement, threads: int, load_s: float, left_s: float) -> str | None:
    """Why this number of threads, and smaller ones, are not tried after the last measurement; `None` if they are."""
    if not last.knots:
        return "the model could not be measured"
    if load_s > SLOW_LOAD_S:
        return (
            f"no other number of threads than {last.threads} was tried: loading the model took {load_s:.1f} s, and it "
            f"is loaded once only where that takes more than {SLOW_LOAD_S:g} s"
        )
    needed_s = sum([knot.run_s for knot in last.knots[:ALWAYS]]) * last.threads / threads
    if needed_s > left_s:
        return (
            f"fewer than {last.threads} threads were not tried: with {threads}, the smallest batches alone should take "
            f"{span(needed_s)}, and {span(max(0.0, left_s))} of {SURVEY_S:g} s for measuring were left"
        )
    return None
