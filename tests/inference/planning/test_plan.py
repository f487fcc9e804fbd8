"""Plans from made-up measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.inference.planning.measure import Measurement, Stop
from sluice.inference.planning.plan import (
    MOST_ROWS,
    MOST_SLOWDOWN,
    PlanGrounds,
    spare_cores,
    thread_choices,
    worker_bytes,
)
from sluice.inference.planning.reasons import make_plan, span
from sluice.inference.serving_plan import PlanTerms, ServingPlan
from sluice.inference.transport.arena import arena_shape
from sluice.inference.types import Datatype, Knot, Signature, TensorSpec, knot_rows

SPECS = (TensorSpec("x", Datatype.FP32, (None, 4)),)
BATCHED = Signature(SPECS, SPECS, True)
ALONE = Signature(SPECS, SPECS, False)
MIB = 1 << 20


def measured(threads: int, run_s: Callable[[int], float], most_rows: int = MOST_ROWS, grown: int = 0) -> Measurement:
    knots = tuple([Knot(rows, run_s(rows)) for rows in knot_rows(most_rows)])
    return Measurement(threads, knots, tuple([grown * knot.rows for knot in knots]), None)


def found(*measurements: Measurement, signature: Signature = BATCHED, resident_bytes: int = 50 * MIB) -> PlanGrounds:
    because = (
        "the model keeps rows apart" if signature.batched else "row 0 of output 'y' changes with the rows beside it"
    )
    return PlanGrounds(signature, because, measurements, resident_bytes)


def shared(work_s: float, alone_s: float = 1e-3) -> Callable[[int], Callable[[int], float]]:
    """An engine that parallelises perfectly but for a part of each batch."""
    return lambda threads: lambda rows: alone_s + work_s * rows / threads


def planned(terms: PlanTerms, run_s: Callable[[int], Callable[[int], float]]) -> ServingPlan:
    most_rows = terms.max_rows or MOST_ROWS
    return make_plan(terms, found(*[measured(each, run_s(each), most_rows) for each in thread_choices(terms)]))


@pytest.mark.parametrize(
    ("terms", "choices"),
    [
        (PlanTerms(cores=1), (1,)),
        (PlanTerms(cores=2), (1,)),
        (PlanTerms(cores=3), (2, 1)),
        (PlanTerms(cores=8), (7, 4, 2, 1)),
        (PlanTerms(cores=9), (8, 4, 2, 1)),
        (PlanTerms(cores=9, count=3), (2, 1)),
        (PlanTerms(cores=9, count=64), (1,)),
        (PlanTerms(cores=9, intra_op_threads=5), (5,)),
        (PlanTerms(cores=9, device="cuda:0"), (1,)),
        (PlanTerms(cores=9, device="cuda:0", intra_op_threads=2), (2,)),
    ],
)
def test_threads_that_are_worth_a_measurement(terms: PlanTerms, choices: tuple[int, ...]) -> None:
    assert thread_choices(terms) == choices


terms_strategy = st.builds(
    PlanTerms,
    cores=st.integers(1, 96),
    device=st.sampled_from(["cpu", "cuda:0"]),
    count=st.none() | st.integers(1, 64),
    intra_op_threads=st.none() | st.integers(1, 128),
    max_rows=st.none() | st.integers(1, 1024),
    objective_s=st.none() | st.floats(1e-4, 10.0),
    memory_bytes=st.none() | st.integers(1, 1 << 40),
)


@st.composite
def findings_for(draw: st.DrawFn, terms: PlanTerms) -> PlanGrounds:
    measurements = []
    for threads in thread_choices(terms):
        rows = knot_rows(terms.max_rows or MOST_ROWS)
        rows = rows[: draw(st.integers(0, len(rows)))]
        times_s = sorted(draw(st.lists(st.floats(1e-6, 10.0), min_size=len(rows), max_size=len(rows))))
        grown = sorted(draw(st.lists(st.integers(0, 1 << 34), min_size=len(rows), max_size=len(rows))))
        knots = tuple([Knot(each, time_s) for each, time_s in zip(rows, times_s, strict=True)])
        stopped = draw(st.sampled_from([*Stop])) if len(rows) < len(knot_rows(terms.max_rows or MOST_ROWS)) else None
        measurements.append(Measurement(threads, knots, tuple(grown), stopped))
    signature = draw(st.sampled_from([BATCHED, ALONE]))
    return found(*measurements, signature=signature, resident_bytes=draw(st.integers(0, 1 << 34)))


@given(st.data(), terms_strategy)
def test_the_laws_of_every_plan(data: st.DataObject, terms: PlanTerms) -> None:
    findings = data.draw(findings_for(terms))
    plan = make_plan(terms, findings)
    assert plan.workers == terms.count or (terms.count is None and plan.workers >= 1)
    assert plan.intra_op_threads == terms.intra_op_threads or (
        terms.intra_op_threads is None and plan.intra_op_threads in thread_choices(terms)
    )
    if terms.count is None or terms.intra_op_threads is None:
        threads = plan.intra_op_threads
        forced = max(terms.count or 1, terms.intra_op_threads or 1)
        assert plan.workers * threads <= max(spare_cores(terms), forced)
    if not findings.signature.batched:
        assert plan.max_rows == 1
    elif terms.max_rows is not None:
        assert plan.max_rows == terms.max_rows
    else:
        assert 1 <= plan.max_rows <= MOST_ROWS
    if terms.device != "cpu" and terms.count is None:
        assert plan.workers == 1
    assert plan.knots in [each.knots for each in findings.measurements]
    assert plan.reasons
    assert all(reason and "{" not in reason for reason in plan.reasons)


@given(st.data(), terms_strategy, st.integers(1, 1 << 40), st.floats(1e-4, 10.0))
def test_tighter_bounds_never_make_batches_larger(
    data: st.DataObject, terms: PlanTerms, memory_bytes: int, objective_s: float
) -> None:
    terms = msgspec.structs.replace(
        terms, max_rows=None, count=1, intra_op_threads=1, memory_bytes=None, objective_s=None
    )
    findings = data.draw(findings_for(terms))
    free = make_plan(terms, findings).max_rows
    looser = msgspec.structs.replace(terms, memory_bytes=2 * memory_bytes, objective_s=2 * objective_s)
    tighter = msgspec.structs.replace(terms, memory_bytes=memory_bytes, objective_s=objective_s)
    assert make_plan(tighter, findings).max_rows <= make_plan(looser, findings).max_rows <= free


def test_two_cores_leave_one_worker_with_one_thread() -> None:
    plan = planned(PlanTerms(cores=2), shared(1e-4))
    assert (plan.workers, plan.intra_op_threads) == (1, 1)
    assert plan.reasons[0] == "1 worker with 1 thread: of 2 cores, one is the gateway's"


def test_a_model_that_parallelises_well_gets_one_worker_with_all_threads() -> None:
    plan = planned(PlanTerms(cores=9), shared(work_s=1e-3, alone_s=1e-6))
    assert (plan.workers, plan.intra_op_threads) == (1, 8)


def test_a_model_that_does_not_parallelise_gets_many_workers_with_one_thread() -> None:
    plan = planned(PlanTerms(cores=9), lambda threads: lambda rows: 1e-3 * rows)
    assert (plan.workers, plan.intra_op_threads) == (8, 1)
    assert plan.reasons[0].startswith("8 workers with 1 thread each: 7,619 rows/s in batches of 2; ")
    assert "1 worker with 8 threads: 952 rows/s in batches of 2" in plan.reasons[0]


def test_nothing_more_is_taken_where_the_gateway_is_slower_anyway() -> None:
    plan = planned(PlanTerms(cores=17), lambda threads: lambda rows: 5e-6)
    assert (plan.workers, plan.intra_op_threads, plan.max_rows) == (1, 1, 256)


def test_a_gpu_has_one_worker() -> None:
    plan = planned(PlanTerms(cores=17, device="cuda:0"), lambda threads: lambda rows: 1e-2)
    assert (plan.workers, plan.intra_op_threads) == (1, 1)
    assert plan.reasons[0] == "1 worker with 1 thread: the model runs on cuda:0, which more would share"


def test_what_is_set_is_said_to_be_set() -> None:
    plan = planned(PlanTerms(cores=4, count=5, intra_op_threads=7, max_rows=48), shared(1e-4))
    assert (plan.workers, plan.intra_op_threads, plan.max_rows) == (5, 7, 48)
    assert [knot.rows for knot in plan.knots] == [1, 2, 4, 8, 16, 32, 48]
    assert plan.reasons == (
        "5 workers with 7 threads each: workers.count = 5 is set and workers.intra_op_threads = 7 is set",
        "batches of up to 48 rows: batching.max_rows is set",
    )


def test_batches_grow_while_it_pays() -> None:
    def run_s(rows: int) -> float:
        return 1e-3 + (0 if rows <= 32 else 1e-3 * (rows - 32))

    plan = planned(PlanTerms(cores=2), lambda threads: run_s)
    assert plan.max_rows == 32
    assert plan.reasons[-1] == (
        "batches of up to 32 rows: a row takes 34.4 µs then, with the 100 µs that a batch costs beside the engine; 517 "
        "µs in a batch of 64; larger batches must save 5 % of that to pay"
    )


def test_a_row_that_takes_as_long_in_a_larger_batch_is_not_compared_with_itself() -> None:
    plan = planned(PlanTerms(cores=2), lambda threads: lambda rows: 1.0 * rows)
    assert plan.reasons[-1] == (
        "batches of 1 row: a row takes 1 s then, with the 100 µs that a batch costs beside the engine; no less in a "
        "batch of 2; larger batches must save 5 % of that to pay"
    )


def test_the_largest_batch_counts_what_it_costs_beside_the_engine_too() -> None:
    plan = planned(PlanTerms(cores=2), lambda threads: lambda rows: 1e-2)
    assert plan.reasons[-1] == (
        "batches of up to 256 rows, the most that are tried: a row takes 39.5 µs then, with the 100 µs that a batch "
        "costs beside the engine"
    )


def test_throughput_does_not_make_one_row_much_slower() -> None:
    """Of 16 threads' choices, one thread has the best rate, and would answer a single row in 9 times the time."""
    plan = planned(PlanTerms(cores=16), lambda threads: lambda rows: 0.05 * rows * (0.05 + 0.95 / threads))
    assert plan.knots[0].run_s <= MOST_SLOWDOWN * 0.05 * (0.05 + 0.95 / 15)
    assert (plan.workers, plan.intra_op_threads) == (3, 4)
    assert "15 workers with 1 thread each: 299 rows/s in batches of 1, but one row takes 50.1 ms; " in plan.reasons[0]
    assert (
        "without a latency objective, one row may take at most 4 times the 5.77 ms that it takes at best"
    ) in plan.reasons[0]


def test_with_an_objective_nothing_else_bounds_one_row() -> None:
    terms = PlanTerms(cores=16, objective_s=10.0)
    plan = planned(terms, lambda threads: lambda rows: 0.05 * rows * (0.05 + 0.95 / threads))
    assert (plan.workers, plan.intra_op_threads) == (14, 1)


def test_what_a_batch_costs_anyway_is_no_slowdown() -> None:
    """The engine takes 8 times as long for one row with one thread, but the answer only a third more."""

    def run_s(threads: int) -> Callable[[int], float]:
        return lambda rows: (5e-6 if threads == 3 else 4e-5) + 3e-5 * (rows - 1)

    assert planned(PlanTerms(cores=4), run_s).intra_op_threads == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1e-297, "less than 0.001 µs"),
        (1e-9, "0.001 µs"),
        (0.0, "0 µs"),
        (7e-6, "7 µs"),
        (0.0009999, "1 ms"),
        (0.0125, "12.5 ms"),
        (0.9999, "1 s"),
        (0.25, "250 ms"),
        (1e6, "1,000,000 s"),
    ],
)
def test_times_are_told_without_exponents(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_batches_keep_the_objective_behind_another_one() -> None:
    plan = planned(PlanTerms(cores=2, objective_s=0.05), lambda threads: lambda rows: 5e-3 + 1e-3 * rows)
    assert plan.max_rows == 16
    assert plan.reasons[-1] == (
        "batches of up to 16 rows: a batch of 32 behind another one takes 74 ms, beyond the objective of 50 ms"
    )


def test_an_objective_out_of_reach_leaves_single_rows_and_says_so() -> None:
    plan = planned(PlanTerms(cores=2, objective_s=0.005), lambda threads: lambda rows: 5e-3 + 1e-3 * rows)
    assert plan.max_rows == 1
    assert plan.reasons[-1] == (
        "batches of 1 row: a batch of 1 behind another one takes 12 ms, and the objective of 5 ms cannot be kept"
    )


def test_threads_that_keep_the_objective_go_before_throughput() -> None:
    def run_s(threads: int) -> Callable[[int], float]:
        return lambda rows: 0.04 * rows / threads**0.5

    assert planned(PlanTerms(cores=5), run_s).intra_op_threads == 1
    assert planned(PlanTerms(cores=5, objective_s=0.05), run_s).intra_op_threads == 4


def test_memory_bounds_workers_and_then_rows() -> None:
    findings = found(*[measured(each, lambda rows: 1e-3 + 1e-3 * rows, grown=MIB) for each in (4, 2, 1)])
    one_worker = worker_bytes(findings, 1)
    plan = make_plan(PlanTerms(cores=5, memory_bytes=2 * worker_bytes(findings, 8)), findings)
    assert (plan.workers, plan.max_rows) == (2, 8)
    assert any(reason.startswith("3 workers need ") for reason in plan.reasons)
    assert plan.reasons[-1].startswith("batches of up to 8 rows: 2 workers with 1 thread each would need more memory")
    tiny = make_plan(PlanTerms(cores=5, memory_bytes=one_worker // 2), findings)
    assert (tiny.workers, tiny.max_rows) == (1, 1)


def test_a_workers_memory_is_the_process_its_growth_and_its_arena() -> None:
    findings = found(measured(1, lambda rows: 1e-3, grown=1000), resident_bytes=7)
    for rows, grown in ((1, 1000), (3, 4000), (256, 256_000), (512, 512_000)):
        assert worker_bytes(findings, rows) == 7 + grown + arena_shape(BATCHED, rows).size_bytes


@pytest.mark.parametrize(
    ("stopped", "rows", "reason"),
    [
        (
            Stop.TIME,
            32,
            "batches of up to 32 rows: 1 s of measuring sufficed for batches of 8, and 32 is a guess from these; "
            "set batching.max_rows if larger ones pay",
        ),
        (Stop.REFUSED, 8, "batches of up to 8 rows: the model did not run larger ones"),
        (Stop.MEMORY, 8, "batches of up to 8 rows: 1 worker with 1 thread would need more memory for larger ones"),
    ],
)
def test_sizes_that_were_not_measured(stopped: Stop, rows: int, reason: str) -> None:
    short = msgspec.structs.replace(measured(1, lambda rows: 0.2, most_rows=8), stopped=stopped)
    plan = make_plan(PlanTerms(cores=2), found(short))
    assert (plan.max_rows, plan.reasons[-1]) == (rows, reason)
    assert plan.knots == short.knots


def test_a_model_that_is_not_batched_says_why() -> None:
    plan = make_plan(PlanTerms(cores=2, max_rows=64), found(measured(1, lambda rows: 1e-3, 1), signature=ALONE))
    assert plan.max_rows == 1
    assert plan.reasons[1] == "every request runs alone: row 0 of output 'y' changes with the rows beside it"


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (PlanTerms(cores=9), (1, 8, 64)),
        (PlanTerms(cores=9, count=2), (2, 4, 64)),
        (PlanTerms(cores=9, count=2, intra_op_threads=1, max_rows=5), (2, 1, 5)),
    ],
)
def test_a_model_that_could_not_be_measured_is_served_by_defaults(
    terms: PlanTerms, expected: tuple[int, int, int]
) -> None:
    plan = make_plan(terms, found(Measurement(thread_choices(terms)[0], (), (), Stop.REFUSED)))
    assert (plan.workers, plan.intra_op_threads, plan.max_rows) == expected
    assert plan.knots == ()
    assert "could not be measured" in plan.reasons[0]


def test_axes_of_any_size_are_mentioned() -> None:
    specs: Sequence[TensorSpec] = (TensorSpec("ids", Datatype.INT64, (None, None)),)
    findings = msgspec.structs.replace(
        found(measured(1, lambda rows: 1e-3)), signature=Signature((*specs,), SPECS, True)
    )
    assert make_plan(PlanTerms(cores=2), findings).reasons[-1] == (
        "measured with size 1 for the axes of any size of 'ids'; larger requests take longer"
    )


@pytest.mark.parametrize(
    ("count", "named"), [(4, "'i0', 'i1', 'i2', 'i3'"), (300, "'i0', 'i1', 'i2' and 297 more inputs")]
)
def test_many_axes_of_any_size_are_counted(count: int, named: str) -> None:
    specs = tuple([TensorSpec(f"i{place}", Datatype.INT64, (None, None)) for place in range(count)])
    findings = msgspec.structs.replace(found(measured(1, lambda rows: 1e-3)), signature=Signature(specs, SPECS, True))
    assert make_plan(PlanTerms(cores=2), findings).reasons[-1] == (
        f"measured with size 1 for the axes of any size of {named}; larger requests take longer"
    )
