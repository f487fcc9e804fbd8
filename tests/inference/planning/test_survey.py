"""What the first worker does before it serves, with fake engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from sluice.inference.backends.base import Backend
from sluice.inference.errors import ModelFailed, ModelLoadError
from sluice.inference.planning.measure import Instruments
from sluice.inference.planning.survey import SLOW_LOAD_S, SURVEY_S, survey
from sluice.inference.planning.warmup import Trial, try_out
from sluice.inference.serving_plan import Batched, PlanTerms
from sluice.inference.trial.trial import TRIAL_S
from sluice.inference.types import Arrays, Datatype, TensorSpec


class Engines:
    """Opens fake engines and counts those that are open. Their run time is a function of threads and rows."""

    def __init__(self, run_s: Callable[[int, int], float], load_s: float = 0.1) -> None:
        self.opened: list[int] = []
        self.open_now = 0
        self.most_open = 0
        self.refuses = False
        self.now_s = 0.0
        self.run_s = run_s
        self._load_s = load_s

    def open(self, threads: int) -> Backend:
        self.opened.append(threads)
        self.now_s += self._load_s
        return _Engine(self, threads)

    def try_out(self, batched: Batched = None) -> Callable[[Backend], Trial]:
        return lambda backend: try_out(backend, batched, clock=lambda: self.now_s)

    @property
    def instruments(self) -> Instruments:
        return Instruments(lambda: self.now_s, lambda: 0, lambda: None)


class _Engine:
    def __init__(self, engines: Engines, threads: int) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", Datatype.FP32, (None, 2)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", Datatype.FP32, (None, 2)),)
        self.axis_names: Mapping[str, str] = {}
        self.checks_integers = True
        self.threads = threads
        self.runs = 0
        self._engines = engines
        engines.open_now += 1
        engines.most_open = max(engines.most_open, engines.open_now)

    def __del__(self) -> None:
        self._engines.open_now -= 1

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        if self._engines.refuses:
            raise ModelFailed("no")
        self.runs += 1
        self._engines.now_s += self._engines.run_s(self.threads, arrays[0].shape[0])
        return (arrays[0],)


def _threads_of(backend: Backend) -> int:
    assert isinstance(backend, _Engine)
    return backend.threads


def test_each_number_of_threads_is_measured_and_the_chosen_one_serves() -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows / (2 if threads == 2 else 1))
    done = survey(engines.open, engines.try_out(), PlanTerms(cores=6, count=1), engines.instruments)
    assert engines.opened == [5, 4, 2, 1, 2]
    assert done.plan.intra_op_threads == _threads_of(done.backend) == 2
    assert engines.most_open == 1
    assert isinstance(done.backend, _Engine)
    assert done.backend.runs > 0, "it is warm"


def test_the_model_is_not_loaded_again_where_the_last_choice_wins() -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows)
    done = survey(engines.open, engines.try_out(), PlanTerms(cores=6, count=1), engines.instruments)
    assert engines.opened == [5, 4, 2, 1]
    assert _threads_of(done.backend) == 1


@pytest.mark.parametrize("terms", [PlanTerms(cores=2), PlanTerms(cores=9, intra_op_threads=3)])
def test_a_single_choice_is_measured_once(terms: PlanTerms) -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows)
    survey(engines.open, engines.try_out(), terms, engines.instruments)
    assert len(engines.opened) == 1


def test_a_model_that_loads_slowly_is_loaded_once() -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows, load_s=SLOW_LOAD_S + 1)
    done = survey(engines.open, engines.try_out(), PlanTerms(cores=6), engines.instruments)
    assert engines.opened == [5]
    assert done.plan.intra_op_threads == 5
    assert any("loading the model took 3.0 s" in reason for reason in done.plan.reasons)


@pytest.mark.parametrize(("cores", "row_s"), [(64, 10.0), (64, 60.0), (16, 10.0), (8, 20.0), (32, 3.0)])
def test_a_slow_model_is_measured_within_a_budget_from_the_most_threads_down(cores: int, row_s: float) -> None:
    engines = Engines(lambda threads, rows: row_s * rows / threads)
    done = survey(engines.open, engines.try_out(), PlanTerms(cores=cores), engines.instruments)
    most = cores - 1
    first_s = (1 + 2) * row_s / most
    least_s = 23 * row_s / most  # zeros, a row twice, three rows alone, and five batches of three
    tried_s = max(least_s, TRIAL_S + least_s / 4)
    reopened_s = 3 * row_s / most + 0.1
    loads_s = 0.1 * len(engines.opened)
    one_run_s = 2 * row_s / done.plan.intra_op_threads
    assert engines.now_s <= loads_s + tried_s + max(SURVEY_S, first_s) + one_run_s + reopened_s
    assert engines.opened[0] == most
    assert any(f"s of {SURVEY_S:g} s for measuring were left" in reason for reason in done.plan.reasons)


def test_a_model_slower_than_the_whole_budget_is_measured_with_one_row_and_two() -> None:
    engines = Engines(lambda threads, rows: 12.0 * rows)
    done = survey(engines.open, engines.try_out("unchecked"), PlanTerms(cores=6), engines.instruments)
    assert engines.opened == [5]
    assert [knot.rows for knot in done.plan.knots] == [1, 2]
    assert (
        "fewer than 5 threads were not tried: with 4, the smallest batches alone should take 45 s, and 0 µs of 10 s "
        "for measuring were left"
    ) in done.plan.reasons


def test_of_fewer_threads_two_rows_are_measured_only_if_there_is_time() -> None:
    """Half the threads are far slower than twice as slow: one row is measured once, and nothing more."""
    engines = Engines(lambda threads, rows: (1.0 if threads == 5 else 6.0) * rows)
    survey(engines.open, engines.try_out("unchecked"), PlanTerms(cores=6, count=1), engines.instruments)
    assert engines.opened == [5, 4, 5]
    measured_s = (1 + 2) + 6
    tried_s = (1 + 2) + (1 + 1)  # zeros, and one random row twice
    assert engines.now_s == pytest.approx(0.3 + tried_s + measured_s + (1 + 2))


def test_a_model_that_refuses_everything_is_loaded_once_and_served_by_defaults() -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows)
    engines.refuses = True
    done = survey(engines.open, engines.try_out(), PlanTerms(cores=6), engines.instruments)
    assert engines.opened == [5]
    assert (done.plan.workers, done.plan.intra_op_threads, done.plan.knots) == (1, 5, ())


def test_what_is_demanded_is_held_before_anything_is_measured() -> None:
    engines = Engines(lambda threads, rows: 1e-4 * rows)

    def open_mixing(threads: int) -> Backend:
        backend = engines.open(threads)
        backend.inputs = (TensorSpec("x", Datatype.FP32, (3, 2)),)
        return backend

    with pytest.raises(ModelLoadError, match="axis 0 of input 'x' has the fixed size 3"):
        survey(open_mixing, engines.try_out(True), PlanTerms(cores=6), engines.instruments)
    assert engines.opened == [5]
