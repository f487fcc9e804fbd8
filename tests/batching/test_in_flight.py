"""When the batches that are out should come back, against a list of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.curve import LatencyCurve
from sluice.batching.in_flight import BatchInFlight, InFlightBatches
from sluice.batching.job import Batch
from sluice.inference.types import Knot

steps = st.lists(
    st.tuples(
        st.sampled_from(["left", "left", "returned", "returned early"]),
        st.floats(0.001, 1.0),
        st.floats(0.0, 0.5),
        st.integers(0, 10),
    ),
    max_size=40,
)


def flat(run_s: float) -> LatencyCurve:
    """Every batch takes as long."""
    return LatencyCurve(1, [Knot(1, run_s)])


class Naive:
    """Every batch that is out, in the order in which they left, as (batch, run time, begun); `None` has not begun."""

    def __init__(self) -> None:
        self.out: list[tuple[BatchInFlight, float, float | None]] = []

    def running(self) -> list[tuple[BatchInFlight, float, float]]:
        return [(in_flight, run_s, begun_s) for in_flight, run_s, begun_s in self.out if begun_s is not None]

    def behind(self) -> list[tuple[BatchInFlight, float]]:
        return [(in_flight, run_s) for in_flight, run_s, begun_s in self.out if begun_s is None]

    def returned(self, in_flight: BatchInFlight, now_s: float) -> None:
        self.out = [each for each in self.out if each[0] is not in_flight]
        if waiting := self.behind():
            place = [each[0] for each in self.out].index(waiting[0][0])
            self.out[place] = (*waiting[0], now_s)

    def left_s(self, now_s: float) -> float:
        running_s = sum(max(0.0, begun_s + run_s - now_s) for _, run_s, begun_s in self.running())
        return running_s + sum(run_s for _, run_s in self.behind())

    def front(self) -> BatchInFlight | None:
        """Those that wait are behind the running ones that end first; the next comes behind the first of the rest."""
        by_end = sorted(self.running(), key=lambda each: each[1] + each[2])
        rest = by_end[len(self.behind()) :]
        return rest[0][0] if rest else None


@given(steps, st.integers(1, 3))
def test_the_time_left_and_the_front_are_those_of_a_list_of_the_batches(
    script: list[tuple[str, float, float, int]], workers: int
) -> None:
    batches, naive, now_s = InFlightBatches(), Naive(), 1000.0
    for step, run_s, later_s, number in script:
        now_s += later_s
        running = naive.running()
        if step == "left" and len(naive.out) < 2 * workers:
            behind = len(running) == workers
            in_flight = batches.left(Batch((), 0), flat(run_s), now_s, behind=behind)
            naive.out.append((in_flight, run_s, None if behind else now_s))
        elif step == "returned" and running:
            in_flight = running[number % len(running)][0]
            naive.returned(in_flight, now_s)
            batches.returned(in_flight, workers, now_s)
        assert len(batches) == len(naive.out)
        assert batches.left_s(now_s) == pytest.approx(naive.left_s(now_s), abs=1e-6)
        assert batches.left_s(now_s + 0.3) == pytest.approx(naive.left_s(now_s + 0.3), abs=1e-6)
        front, expected = batches.front(), naive.front()
        assert (front is None) == (expected is None)
        if front is not None and expected is not None:
            assert front.began_s + front.run_s == pytest.approx(expected.began_s + expected.run_s)


@given(steps, st.integers(1, 3))
def test_whichever_batch_returns_first_none_is_lost_and_no_worker_runs_two(
    script: list[tuple[str, float, float, int]], workers: int
) -> None:
    batches, out, now_s = InFlightBatches(), list[tuple[BatchInFlight, float]](), 1000.0
    for step, run_s, later_s, number in script:
        now_s += later_s
        if step == "left" and len(out) < 2 * workers:
            out.append((batches.left(Batch((), 0), flat(run_s), now_s, behind=len(out) >= workers), run_s))
        elif out:
            batches.returned(out.pop(number % len(out))[0], workers, now_s)
        assert sorted(map(id, batches)) == sorted(id(in_flight.batch) for in_flight, _ in out)
        longest_first = sorted([run_s for _, run_s in out], reverse=True)
        assert batches.left_s(now_s) <= sum(longest_first) + 1e-9
        assert batches.left_s(now_s) >= sum(longest_first[workers:]) - 1e-9
        assert (batches.front() is None) == (len(out) in {0, 2 * workers} or not out)


def test_an_overdue_batch_does_not_hide_the_others() -> None:
    batches = InFlightBatches()
    batches.left(Batch((), 1), flat(1.0), 1000.0, behind=False)
    batches.left(Batch((), 1), flat(6.0), 1000.0, behind=False)
    assert batches.left_s(1005.0) == pytest.approx(1.0)


def test_nothing_is_left_of_what_has_returned() -> None:
    batches = InFlightBatches()
    sent = [batches.left(Batch((), 1), flat(0.1 * place), 1000.0, behind=place > 1) for place in range(5)]
    for in_flight in sent:
        batches.returned(in_flight, 2, 1000.05)
    assert (len(batches), batches.left_s(1000.05), batches.front()) == (0, 0.0, None)


def test_the_first_behind_an_idle_house_runs_at_once() -> None:
    batches = InFlightBatches()
    in_flight = batches.left(Batch((), 1), flat(0.5), 1000.0, behind=True)
    assert batches.front() is in_flight
    assert batches.left_s(1000.25) == pytest.approx(0.25)
