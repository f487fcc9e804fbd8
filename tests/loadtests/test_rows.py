"""Which rows are asked for: their popularity, their data, and how often users call."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from loadtests.models import DIGITS_FILE, MODELS, Model, digits_row
from loadtests.pace import Pace
from loadtests.payloads.make import digits
from loadtests.zipf import Zipf

DRAWS = 20_000


def test_the_payload_file_is_what_its_script_makes() -> None:
    assert DIGITS_FILE.read_text() == digits()


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_row_is_another_and_always_the_same(model: Model) -> None:
    rows = [model.row(number) for number in range(5000)]
    assert len(set(rows)) == 5000
    digits_row.cache_clear()
    assert rows[-1] == model.row(4999)


def test_noise_keeps_images_within_the_scale_of_grey() -> None:
    assert {value for number in range(2000) for value in digits_row(number)} == set(range(17))


def test_zipf_draws_ranks_as_often_as_its_law_says() -> None:
    random = Random(1)
    zipf = Zipf(100, 1.0)
    seen = Counter(zipf.draw(random) for _ in range(DRAWS))
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (0, 1, 9):
        assert seen[rank] / DRAWS == pytest.approx(1 / (rank + 1) / harmonic, rel=0.1)
    assert set(seen) <= set(range(100))


def test_an_exponent_of_zero_prefers_none() -> None:
    random = Random(2)
    zipf = Zipf(4, 0)
    seen = Counter(zipf.draw(random) for _ in range(DRAWS))
    assert all(seen[rank] / DRAWS == pytest.approx(0.25, rel=0.1) for rank in range(4))


@pytest.mark.parametrize(("rows", "exponent"), [(0, 1.0), (5, -0.1)])
def test_zipf_refuses_what_is_no_law(rows: int, exponent: float) -> None:
    with pytest.raises(ValueError, match="expected rows >= 1"):
        Zipf(rows, exponent)


def test_a_pace_keeps_its_turns_and_loses_those_that_were_missed() -> None:
    pace = Pace(1.0, 10.0)
    assert pace.wait_s(10.25) == 0.75
    assert pace.wait_s(11.5) == 0.5
    assert pace.wait_s(15.0) == 0.0
    assert pace.wait_s(15.5) == 0.5
