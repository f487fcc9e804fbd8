from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batching.policy import Reason, after_dispatch, decide
from inference.types import Vacancy

counts = st.integers(0, 100)
sizes = st.integers(1, 64)
vacancies = st.builds(Vacancy, st.integers(0, 3), st.integers(0, 3))


@given(counts, counts, counts, sizes)
def test_nothing_leaves_without_room(again: int, waiting: int, ahead: int, max_rows: int) -> None:
    assert decide(Vacancy(0, 0), again, waiting, ahead, max_rows) is None


@given(vacancies, counts, sizes)
def test_nothing_leaves_when_nothing_waits(vacancy: Vacancy, ahead: int, max_rows: int) -> None:
    assert decide(vacancy, 0, 0, ahead, max_rows) is None


@given(st.integers(1, 3), st.integers(0, 3), counts, st.integers(1, 100), counts, sizes)
def test_nothing_is_held_while_a_worker_is_idle(
    idle: int, spare: int, again: int, waiting: int, ahead: int, max_rows: int
) -> None:
    assert decide(Vacancy(idle, spare), again, waiting, ahead, max_rows) is not None


@given(st.integers(1, 3), st.integers(1, 100), counts, sizes)
def test_a_spare_place_is_for_full_batches_and_for_those_not_much_smaller_than_the_one_ahead(
    spare: int, waiting: int, ahead: int, max_rows: int
) -> None:
    leaves = decide(Vacancy(0, spare), 0, waiting, ahead, max_rows) is not None
    assert leaves == (waiting >= min(0.75 * ahead, max_rows))


def test_every_reason_has_its_case() -> None:
    assert decide(Vacancy(1, 0), 0, 64, 0, 64) is Reason.FULL
    assert decide(Vacancy(0, 1), 0, 70, 99, 64) is Reason.FULL
    assert decide(Vacancy(1, 0), 0, 1, 9, 64) is Reason.IDLE
    assert decide(Vacancy(0, 1), 0, 9, 9, 64) is Reason.AHEAD
    assert decide(Vacancy(0, 1), 0, 6, 8, 64) is Reason.AHEAD
    assert decide(Vacancy(0, 1), 0, 5, 8, 64) is None
    assert decide(Vacancy(0, 1), 1, 0, 9, 64) is Reason.AGAIN


def test_idle_workers_are_given_work_first() -> None:
    assert after_dispatch(Vacancy(2, 1)) == Vacancy(1, 1)
    assert after_dispatch(Vacancy(0, 1)) == Vacancy(0, 0)
