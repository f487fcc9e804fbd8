from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.streams import drawn, unique, zipf


def test_ranks_are_drawn_by_their_power() -> None:
    counts = Counter(zipf(1.1, 1000, 200_000, seed=1))
    assert 0 <= min(counts) <= max(counts) < 1000
    assert 1.9 < counts[0] / counts[1] < 2.4  # 2 ** 1.1 = 2.14
    assert 8 < counts[0] / counts[7] < 12  # 8 ** 1.1 = 9.8


def test_the_same_seed_draws_the_same() -> None:
    assert zipf(1.1, 50, 100, seed=3) == zipf(1.1, 50, 100, seed=3)
    assert zipf(1.1, 50, 100, seed=3) != zipf(1.1, 50, 100, seed=4)


def test_scripts_name_what_they_send() -> None:
    assert "local columns, rows = 4, 8" in unique(4, 8, 17)
    assert "local number = 17" in unique(4, 8, 17)
    assert "/numbers" in drawn(64, 1, Path("/numbers"), 5)
