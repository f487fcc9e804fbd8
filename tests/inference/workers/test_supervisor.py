from __future__ import annotations

from sluice.inference.workers.supervisor import LONGEST_DELAY_S, failures_with, restart_delay_s


def test_the_first_worker_is_replaced_at_once() -> None:
    assert restart_delay_s(1) == 0.0


def test_delays_double_from_a_tenth_of_a_second() -> None:
    assert [restart_delay_s(failures) for failures in (2, 3, 4, 5)] == [0.1, 0.2, 0.4, 0.8]


def test_delays_stay_bounded_for_ever() -> None:
    assert restart_delay_s(9) == restart_delay_s(100_000) == LONGEST_DELAY_S


def test_a_worker_that_served_nothing_and_lived_shortly_adds_to_the_failures() -> None:
    assert failures_with(4, answered=0, lived_s=LONGEST_DELAY_S) == 5


def test_what_a_worker_ran_does_not_make_the_next_one_wait_long() -> None:
    failures = 0
    for _ in range(100):
        failures = failures_with(failures, answered=0, lived_s=0.1, ran=True)
    assert restart_delay_s(failures) <= 1.0
    assert failures_with(9, answered=0, lived_s=0.1, ran=True) == 9, "nor shorter than it would have"


def test_failures_begin_anew_with_a_worker_that_answered_or_lived_long() -> None:
    assert failures_with(4, answered=1, lived_s=0.0) == 1
    assert failures_with(4, answered=0, lived_s=LONGEST_DELAY_S + 1) == 1
