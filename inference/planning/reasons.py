"""Makes a plan, with plain sentences that say why it is so. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.planning.knots import BATCH_COST_S, LEAST_SAVING, per_row_s, run_s_at
from sluice.inference.planning.measure import BUDGET_S
from sluice.inference.planning.plan import (
    ENOUGH_ROWS_PER_S,
    MOST_SLOWDOWN,
    NEARLY,
    RUNS_IN_OBJECTIVE,
    Bound,
    Candidate,
    PlanGrounds,
    candidates,
    choose,
    spare_cores,
    too_slow,
    unmeasured,
    worker_bytes,
)
from sluice.inference.serving_plan import PlanTerms, ServingPlan

MOST_NAMES = 3
"""The most inputs that a sentence names."""

_MIB = 1 << 20
_BESIDE = f"with the {BATCH_COST_S * 1e6:g} µs that a batch costs beside the engine"
_LEAST_S = 1e-9


def make_plan(terms: PlanTerms, grounds: PlanGrounds) -> ServingPlan:
    """The plan for a model of which at least one measurement was tried, with its reasons."""
    found = candidates(terms, grounds)
    if not found:
        workers, threads, rows = unmeasured(terms, grounds)
        reasons = [
            f"{ways(workers, threads)}, {_up_to(rows)}: what is set, or else defaults, for the model refused random "
            "inputs and could not be measured"
        ]
        return ServingPlan(workers, threads, rows, (), tuple(reasons))
    chosen = choose(terms, found)
    reasons = [
        _why_workers(terms, chosen, found),
        *_why_no_more_workers(terms, grounds, chosen),
        *([grounds.unexplored_because] if grounds.unexplored_because else []),
        _why_rows(terms, grounds, chosen),
        *_unlike_requests(grounds),
    ]
    return ServingPlan(chosen.workers, chosen.threads, chosen.max_rows, chosen.measured, tuple(reasons))


def ways(workers: int, threads: int) -> str:
    """`2 workers with 1 thread each`."""
    return f"{_count(workers, 'worker')} with {_count(threads, 'thread')}{' each' if workers > 1 else ''}"


def span(seconds: float) -> str:
    """`0.25 s`, `12.5 ms` or `7 µs`: a time with three digits, in a unit that needs no exponent."""
    digits = float(f"{seconds:.3g}")  # before the unit is chosen: 999.9 µs are 1 ms
    if 0 < digits < _LEAST_S:
        return f"less than {span(_LEAST_S)}"
    for unit_s, unit in ((1.0, "s"), (1e-3, "ms")):
        if digits >= unit_s:
            number = digits / unit_s
            return f"{number:,.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"
    return f"{digits * 1e6:.3g} µs"


def _why_workers(terms: PlanTerms, chosen: Candidate, found: Sequence[Candidate]) -> str:
    said = ways(chosen.workers, chosen.threads)
    keys = {"workers.count": terms.count, "workers.intra_op_threads": terms.intra_op_threads}
    are_set = [f"{key} = {value} is set" for key, value in keys.items() if value is not None]
    if len(found) > 1:
        words = [f"{said}{_because(are_set)}: {_rate(chosen)}{_out_of_reach(terms, found)}"]
        slow = too_slow(terms, found)
        words += [f"{ways(each.workers, each.threads)}: {_rate(each, slow)}" for each in _others(chosen, found)]
        return "; ".join(words) + (
            f" (fewer workers, then fewer threads, are taken for {_percent(NEARLY)} of the best rate, and all rates "
            f"beyond {ENOUGH_ROWS_PER_S:,.0f} rows/s are as good{_slowdown(slow, found)})"
        )
    if len(are_set) == len(keys):
        return f"{said}: {' and '.join(are_set)}"
    if terms.device != "cpu":
        return f"{said}{_because(are_set)}: the model runs on {terms.device}, which more would share"
    if terms.cores <= 2:
        return f"{said}{_because(are_set)}: of {_count(terms.cores, 'core')}, one is the gateway's"
    return f"{said}{_because(are_set)}: {_count(spare_cores(terms), 'core')} of {terms.cores} are the workers'"


def _others(chosen: Candidate, found: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate for each number of threads; for the chosen number, only if it has a better rate."""
    best: dict[int, Candidate] = {chosen.threads: chosen}
    for each in found:
        if each.threads not in best or each.rows_per_s > best[each.threads].rows_per_s:
            best[each.threads] = each
    if best[chosen.threads] is chosen:
        del best[chosen.threads]
    return sorted(best.values(), key=lambda each: -each.rows_per_s)


def _why_no_more_workers(terms: PlanTerms, grounds: PlanGrounds, chosen: Candidate) -> list[str]:
    could = spare_cores(terms) // chosen.threads
    needed = (chosen.workers + 1) * worker_bytes(grounds, 1)
    if terms.memory_bytes is None or terms.count or terms.device != "cpu" or chosen.workers >= could:
        return []
    if needed <= terms.memory_bytes:
        return []
    return [
        f"{_count(chosen.workers + 1, 'worker')} need {_mib(needed)}, beyond the {_mib(terms.memory_bytes)} allowed"
    ]


def _why_rows(terms: PlanTerms, grounds: PlanGrounds, chosen: Candidate) -> str:
    rows, next_rows = chosen.max_rows, _next(chosen)
    said = _up_to(rows)
    match chosen.bound:
        case Bound.SET:
            return f"{said}: batching.max_rows is set"
        case Bound.UNBATCHED:
            return f"every request runs alone: {grounds.alone_because}"
        case Bound.GAIN:
            now, then = _row(chosen, rows), _row(chosen, next_rows)
            return (
                f"{said}: {_row_takes(now)}; {'no less' if then == now else then} in a batch of {next_rows}; "
                f"larger batches must save {_percent(LEAST_SAVING)} of that to pay"
            )
        case Bound.OBJECTIVE if not chosen.keeps(terms.objective_s):
            return f"{said}: {_twice(chosen, rows)}, and the objective of {span(terms.objective_s or 0)} cannot be kept"
        case Bound.OBJECTIVE:
            return f"{said}: {_twice(chosen, next_rows)}, beyond the objective of {span(terms.objective_s or 0)}"
        case Bound.MEMORY:
            allowed = "" if terms.memory_bytes is None else f" than the {_mib(terms.memory_bytes)} allowed"
            return f"{said}: {ways(chosen.workers, chosen.threads)} would need more memory{allowed} for larger ones"
        case Bound.REFUSED:
            return f"{said}: the model did not run larger ones"
        case Bound.TIME:
            return f"{said}: {_time_was_over(chosen)}; set batching.max_rows if larger ones pay"
        case Bound.MOST:
            return f"{said}, the most that are tried: {_row_takes(_row(chosen, rows))}"


def _row_takes(time: str) -> str:
    """The time of a row, and that it includes more than the run time, which is all that the table shows."""
    return f"a row takes {time} then, {_BESIDE}"


def _time_was_over(chosen: Candidate) -> str:
    last = chosen.measured[-1].rows
    guessed = f", and {chosen.max_rows} is a guess from these" if chosen.max_rows > last else ""
    return f"{BUDGET_S:g} s of measuring sufficed for batches of {last}{guessed}"


def _unlike_requests(grounds: PlanGrounds) -> list[str]:
    first = 1 if grounds.signature.batched else 0
    shapes = grounds.measured_shapes or ((1,) * 32,) * len(grounds.signature.inputs)
    sizes = {
        spec.name: [size for size, declared in zip(shape[first:], spec.shape[first:], strict=False) if declared is None]
        for spec, shape in zip(grounds.signature.inputs, shapes, strict=True)
    }
    names = [repr(name) for name, opened in sizes.items() if opened]
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMES} more inputs" if len(names) > MOST_NAMES + 1 else ""
    shown = names[:MOST_NAMES] if more else names
    several = sorted({size for opened in sizes.values() for size in opened})
    said = f"size{'s' if len(several) > 1 else ''} {', '.join(map(str, several))}"
    return [f"measured with {said} for the axes of any size of {', '.join(shown)}{more}; larger requests take longer"]


def _out_of_reach(terms: PlanTerms, found: Sequence[Candidate]) -> str:
    if terms.objective_s is None or any(each.keeps(terms.objective_s) for each in found):
        return ""
    return f", and the quickest for one row, as the objective of {span(terms.objective_s or 0)} is out of reach"


def _because(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


def _next(chosen: Candidate) -> int:
    return next((knot.rows for knot in chosen.knots if knot.rows > chosen.max_rows), 2 * chosen.max_rows)


def _rate(each: Candidate, slow: Sequence[Candidate] = ()) -> str:
    left_out = f", but one row takes {span(each.answer_s)}" if each in slow else ""
    return f"{each.rows_per_s:,.0f} rows/s in batches of {each.max_rows}{left_out}"


def _slowdown(slow: Sequence[Candidate], found: Sequence[Candidate]) -> str:
    if not slow:
        return ""
    return (
        f"; without a latency objective, one row may take at most {MOST_SLOWDOWN:g} times the "
        f"{span(min(each.answer_s for each in found))} that it takes at best, {_BESIDE}"
    )


def _row(chosen: Candidate, rows: int) -> str:
    knot = next((knot for knot in chosen.knots if knot.rows == rows), chosen.knots[-1])
    return span(per_row_s(knot))


def _twice(chosen: Candidate, rows: int) -> str:
    run_s = RUNS_IN_OBJECTIVE * run_s_at(chosen.knots, rows)
    return f"a batch of {rows} behind another one takes {span(run_s)}"


def _up_to(rows: int) -> str:
    return f"batches of up to {rows} rows" if rows > 1 else "batches of 1 row"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _percent(part: float) -> str:
    return f"{part * 100:g} %"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"
