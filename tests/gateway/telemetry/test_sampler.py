from __future__ import annotations

from sluice.gateway.telemetry.sampler import Sampler


def test_sampler_admits_so_many_lines_a_second_and_counts_the_rest() -> None:
    sampler = Sampler(2)
    assert [sampler.admit(10.0) for _ in range(5)] == [0, 0, None, None, None]
    assert [sampler.admit(11.2) for _ in range(3)] == [3, 0, None]
    assert sampler.admit(19.0) == 1


def test_sampler_of_zero_admits_nothing() -> None:
    assert Sampler(0).admit(1.0) is None
