"""The report of a run: its figures, a ramp's steps and the capacity that they show, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

import msgspec
import numpy as np

from sluice.inference.errors import StartError
from sluice.loadgen.figures import CountedWindow, Counts, Figures, count, figures, lateness
from sluice.loadgen.generator import Carried
from sluice.loadgen.order import LoadOrder, step_windows

MAX_BUSY = 0.9
"""The share of one core beyond which answers wait for the generator, which looks as if the server were slow."""

SCHEMA = "sluice.load/1"
"""The version of the report's schema: raised with every change that breaks a reader."""


class StepReport(msgspec.Struct, frozen=True):
    """One step of a ramp. `held`: enough of what was offered in it was answered within the objective.

    `busy` is the part of the step in which the generator itself was computing.
    """

    rate_per_s: float
    window: CountedWindow
    held: bool
    busy: float
    figures: Figures


class Called(msgspec.Struct, frozen=True):
    """What was called: the URL, how many bodies took turns, their mean size, and the names of the headers added."""

    url: str
    bodies: int
    body_bytes: float
    headers: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is over. `figures` are about `window`, `counts` about the whole run with its warm-up.

    `started` is the wall clock in UTC, ISO 8601. `met` says whether the objective was kept, `None` without one; of a
    ramp whether its first step kept it. `capacity_per_s` is the rate of the last step before the first that did not
    hold, `None` if there is none. `doubts` says why the figures must not be trusted; with none, `trusted` is true.
    `stopped` if it was ended before its time: the window is then shorter, and steps that were not over are left out.
    `generator` has its processor time in the whole run, `cpu_s`, the part of the window in which it was `busy`, and
    `reopened`, the connections that had ended and were opened again.
    """

    schema: str
    started: str
    called: Called
    load: LoadOrder
    window: CountedWindow
    counts: Counts
    figures: Figures
    steps: tuple[StepReport, ...]
    capacity_per_s: float | None
    met: bool | None
    trusted: bool
    doubts: tuple[str, ...]
    stopped: bool
    generator: Mapping[str, float]


def report(called: Called, load: LoadOrder, carried: Carried, started: str) -> Report:
    """The report of a run. Raises `StartError` if it was stopped before anything could be told."""
    window = _until(load.window(), carried.stopped_s)
    if window is None:
        raise StartError("stopped before the warm-up was over: there is nothing to report")
    objective_s = math.inf if load.objective_ms is None else load.objective_ms / 1e3
    seen = figures(carried.requests, window, objective_s)
    steps: list[StepReport] = []
    for step, step_window in step_windows(load):
        if step_window.end_s <= window.end_s + 1e-9:
            each = figures(carried.requests, step_window, objective_s)
            held = each.good_share >= load.min_goodput
            steps.append(StepReport(step.rate_per_s, step_window, held, busy(carried, step_window), each))
    kept = held_steps(steps)
    ramp = load.to_rate_per_s is not None
    good = bool(kept) if ramp else seen.good_share >= load.min_goodput
    doubts = doubts_of(steps) if ramp else (*seen.faults, *overwork(busy(carried, window)))
    return Report(
        schema=SCHEMA,
        started=started,
        called=called,
        load=load,
        window=window,
        counts=count(carried.requests),
        figures=seen,
        steps=tuple(steps),
        capacity_per_s=kept[-1].rate_per_s if kept else None,
        met=None if load.objective_ms is None else good,
        trusted=not doubts,
        doubts=doubts,
        stopped=carried.stopped_s is not None,
        generator={"cpu_s": float(carried.cpu_s[-1]), "busy": busy(carried, window), "reopened": carried.reopened},
    )


def held_steps(steps: Sequence[StepReport]) -> Sequence[StepReport]:
    """Those before the first that did not hold. One that holds after that is luck."""
    return list(takewhile(lambda step: step.held, steps))


def doubts_of(steps: Sequence[StepReport]) -> tuple[str, ...]:
    """Why the capacity that these steps show must not be trusted.

    In the first step that does not hold, requests wait for connections because the server holds them all: that is what
    was looked for. A generator that was late or busy there may have been what did not hold.
    """
    held = held_steps(steps)
    doubts = [(step, fault) for step in held for fault in (*step.figures.faults, *overwork(step.busy))]
    for step in steps[len(held) : len(held) + 1]:
        doubts += [(step, fault) for fault in (*lateness(step.figures.lag), *overwork(step.busy))]
    return tuple([f"at {step.rate_per_s:,.0f}/s: {fault}" for step, fault in doubts])


def busy(carried: Carried, window: CountedWindow) -> float:
    """The part of a window in which the generator was computing."""
    begin_s, end_s = np.interp([window.begin_s, window.end_s], carried.sampled_s, carried.cpu_s)
    return float(end_s - begin_s) / (window.end_s - window.begin_s)


def overwork(share: float) -> list[str]:
    """The fault of a generator that was too busy to read answers when they came, if it was."""
    return [f"the generator was busy {share:.0%} of the time"] if share > MAX_BUSY else []


def as_json(what: Report) -> str:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(what), indent=2).decode()


def _until(window: CountedWindow, stopped_s: float | None) -> CountedWindow | None:
    if stopped_s is None or stopped_s >= window.end_s:
        return window
    return CountedWindow(window.begin_s, stopped_s) if stopped_s > window.begin_s else None
