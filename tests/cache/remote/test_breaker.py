from __future__ import annotations

from sluice.cache.remote.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Breaker, BreakerState


def test_it_begins_with_a_try() -> None:
    breaker = Breaker(lambda: 0.5)
    states = [breaker.state]
    assert breaker.try_at_s == 0.0
    breaker.trying()
    states.append(breaker.state)
    breaker.succeeded()
    assert [*states, breaker.state] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_a_failure_opens_it_for_a_moment() -> None:
    breaker = Breaker(lambda: 0.5)
    breaker.succeeded()
    breaker.failed(100.0)
    assert breaker.state == BreakerState.OPEN
    assert breaker.try_at_s == 100.0 + FIRST_PAUSE_S
    assert not breaker.persists


def test_pauses_grow_while_tries_fail_up_to_a_bound() -> None:
    breaker = Breaker(lambda: 0.5)
    now_s, pauses = 0.0, []
    for _ in range(12):
        breaker.trying()
        breaker.failed(now_s)
        pauses.append(round(breaker.try_at_s - now_s, 9))
        now_s = breaker.try_at_s
    assert pauses == sorted(pauses)
    assert abs(pauses[-1] - LONGEST_PAUSE_S) < 1e-9
    assert breaker.persists


def test_several_failures_at_the_same_time_count_as_one() -> None:
    breaker = Breaker(lambda: 0.5)
    breaker.succeeded()
    for late_s in (0.0, 0.001, 0.002):
        breaker.failed(100.0 + late_s)
    assert breaker.try_at_s == 100.0 + FIRST_PAUSE_S


def test_a_service_that_answers_tries_and_nothing_else_is_tried_less_and_less() -> None:
    breaker = Breaker(lambda: 0.5)
    now_s = 100.0
    for _ in range(10):
        breaker.succeeded()
        breaker.failed(now_s)
        now_s = breaker.try_at_s
    assert breaker.persists


def test_after_a_steady_time_a_failure_is_a_new_story() -> None:
    breaker = Breaker(lambda: 0.5)
    for second in range(5):
        breaker.trying()
        breaker.failed(100.0 + second)
    breaker.succeeded()
    breaker.failed(105.0 + STEADY_S)
    assert breaker.try_at_s == 105.0 + STEADY_S + FIRST_PAUSE_S


def test_pauses_differ_by_chance() -> None:
    tries = set()
    for chance in (0.0, 0.5, 1.0):
        breaker = Breaker(lambda chance=chance: chance)  # type: ignore[misc]
        breaker.failed(100.0)
        tries.add(breaker.try_at_s)
    assert len(tries) == 3
    assert max(tries) - min(tries) < FIRST_PAUSE_S
