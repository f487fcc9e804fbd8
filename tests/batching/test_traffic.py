from __future__ import annotations

import pytest

from sluice.batching.traffic import Traffic


def busy_traffic(memory_s: float, now_s: float) -> Traffic:
    traffic = Traffic(memory_s)
    traffic.watch(now_s, busy=True)
    return traffic


def test_nothing_has_come_yet() -> None:
    assert Traffic(1.0).rows_per_s(1000.0) == 0.0


def test_steady_traffic_is_known_after_a_few_memories() -> None:
    traffic = busy_traffic(0.1, 1000.0)
    for arrival in range(1000):
        traffic.arrived(3, 1000 + arrival / 1000)
    assert traffic.rows_per_s(1000.999) == pytest.approx(3000, rel=0.01)


def test_silence_is_known_within_a_few_memories() -> None:
    traffic = busy_traffic(0.1, 1000.0)
    traffic.arrived(100, 1000.0)
    assert traffic.rows_per_s(1000.0) == pytest.approx(1000)
    assert 0 < traffic.rows_per_s(1000.1) <= 1000 / 2.718281828
    assert traffic.rows_per_s(1001.0) < 0.05


def test_what_comes_while_nothing_is_out_does_not_count() -> None:
    traffic = Traffic(0.1)
    for arrival in range(100):
        traffic.arrived(1, 1000 + arrival / 1000)
    assert traffic.rows_per_s(1000.1) == 0.0


def test_the_rate_is_that_of_busy_time() -> None:
    traffic, now_s = Traffic(0.1), 1000.0
    for _ in range(200):
        traffic.watch(now_s, busy=True)
        for _ in range(5):
            now_s += 0.001
            traffic.arrived(2, now_s)
        traffic.watch(now_s, busy=False)
        now_s += 0.01
        traffic.arrived(2, now_s)
    assert traffic.rows_per_s(now_s) == pytest.approx(2000, rel=0.05)


def test_a_long_pause_begins_anew() -> None:
    traffic = busy_traffic(0.1, 1000.0)
    traffic.arrived(100, 1000.0)
    traffic.watch(1000.0, busy=False)
    traffic.watch(1000.2, busy=True)
    assert traffic.rows_per_s(1000.2) == 0.0


def test_a_short_pause_does_not() -> None:
    traffic = busy_traffic(0.1, 1000.0)
    traffic.arrived(100, 1000.0)
    traffic.watch(1000.0, busy=False)
    traffic.watch(1000.05, busy=True)
    assert traffic.rows_per_s(1000.05) == pytest.approx(1000)


def test_to_look_and_to_repeat_what_is_known_changes_nothing() -> None:
    seldom, often = busy_traffic(0.1, 1000.0), busy_traffic(0.1, 1000.0)
    for arrival in range(10):
        for traffic in seldom, often:
            traffic.arrived(1, 1000 + arrival / 50)
        often.rows_per_s(1000 + arrival / 50 + 0.01)
        often.watch(1000 + arrival / 50 + 0.01, busy=True)
    assert often.rows_per_s(1001.0) == pytest.approx(seldom.rows_per_s(1001.0))
