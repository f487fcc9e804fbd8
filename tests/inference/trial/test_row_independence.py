"""Comparing rows alone and together, with fake engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from sluice.inference.trial.accepted_inputs import Answered, find_taken
from sluice.inference.trial.random_inputs import untried
from sluice.inference.trial.row_independence import answers_vary
from sluice.inference.trial.trial import TrialResult, try_hard, try_plain
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, TensorSpec


class Puppet:
    """One input and one output of a datatype; the answer is what a function makes of the input."""

    def __init__(self, datatype: Datatype, answer: Callable[[Array], Array]) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", datatype, (None, 200)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", datatype, (None, 200)),)
        self.axis_names: Mapping[str, str] = {}
        self.checks_integers = True
        self._answer = answer

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        return (self._answer(arrays[0]),)

    def tried(self) -> TrialResult:
        """What the whole trial says."""
        found = find_taken(self, None, stacked=True, clock=lambda: 0.0)
        assert isinstance(found, Answered)
        return try_hard(self, self.outputs, found, None, lambda: 0.0)

    def tried_plainly(self) -> TrialResult:
        """What the short one says."""
        return try_plain(self, self.outputs, untried(self.inputs))


def _known(verdict: TrialResult) -> bool:
    return (verdict.mixed_because, verdict.erratic_because, verdict.unknown_because) == (None, None, None)


@pytest.mark.parametrize("datatype", list(Datatype))
def test_mixing_shows_in_every_datatype(datatype: Datatype) -> None:
    def last_row_for_all(x: Array) -> Array:
        return np.repeat(x[-1:], len(x), axis=0)

    puppet = Puppet(datatype, last_row_for_all)
    assert puppet.tried().mixed_because == "row 0 of output 'y' changes with the rows beside it"
    assert puppet.tried_plainly().mixed_because == "row 0 of output 'y' changes with the rows beside it"


@pytest.mark.parametrize("datatype", list(Datatype))
def test_rows_that_keep_apart_are_known_to_in_every_datatype(datatype: Datatype) -> None:
    assert _known(Puppet(datatype, lambda x: x).tried())
    assert _known(Puppet(datatype, lambda x: x).tried_plainly())


def test_a_row_that_only_the_rows_before_it_change_is_found() -> None:
    puppet = Puppet(Datatype.FP32, lambda x: np.cumsum(x, axis=0, dtype=np.float32))
    assert puppet.tried().mixed_because == "row 1 of output 'y' changes with the rows beside it"


@pytest.mark.parametrize(("datatype", "rounding"), [(Datatype.FP32, 1e-5), (Datatype.FP16, 5e-3)])
def test_rounding_is_no_mixing(datatype: Datatype, rounding: float) -> None:
    def rounded_otherwise_in_pairs(x: Array) -> Array:
        return (x * (1 + rounding * (len(x) > 1))).astype(STORAGE[datatype])

    assert _known(Puppet(datatype, rounded_otherwise_in_pairs).tried())


@pytest.mark.parametrize(("flips", "mixed"), [(2, False), (3, True)])
def test_one_integer_in_a_hundred_may_flip_in_each_row(flips: int, mixed: bool) -> None:
    def flipped_in_batches(x: Array) -> Array:
        flipped = x.copy()
        flipped[:1, :flips] += len(x) > 1
        return flipped

    found = Puppet(Datatype.INT64, flipped_in_batches).tried_plainly().mixed_because
    assert (found == "row 0 of output 'y' changes with the rows beside it") is mixed


def test_nan_is_equal_to_nan_and_evidence_of_nothing() -> None:
    verdict = Puppet(Datatype.FP32, lambda x: np.full_like(x, np.nan)).tried()
    assert verdict.mixed_because is None
    assert verdict.unknown_because is not None
    assert "output 'y' said the same of all " in verdict.unknown_because


def test_infinities_are_compared() -> None:
    def infinite_beside_others(x: Array) -> Array:
        return np.where(len(x) > 1, np.float32(np.inf), x)

    assert Puppet(Datatype.FP32, infinite_beside_others).tried().mixed_because is not None


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_a_neighbours_slightest_influence_shows(scale: float) -> None:
    def leaking(x: Array) -> Array:
        return ((x + 1e-4 * x[-1:] * (len(x) > 1)) * scale).astype(np.float32)

    for verdict in (Puppet(Datatype.FP32, leaking).tried(), Puppet(Datatype.FP32, leaking).tried_plainly()):
        assert verdict.mixed_because == "row 0 of output 'y' changes with the rows beside it"


def test_an_answer_that_depends_on_the_place_in_the_batch_is_found() -> None:
    puppet = Puppet(Datatype.FP32, lambda x: x * (1 + 1e-4 * np.arange(len(x), dtype=np.float32)[:, np.newaxis]))
    assert puppet.tried().mixed_because == "row 0 of output 'y' changes with its place in the batch"


def test_a_model_that_makes_much_of_rounding_is_not_accused_of_mixing() -> None:
    """Its answer changes beside other rows, and it also changes when the row itself is changed by a millionth."""

    def chaotic(x: Array) -> Array:
        nudged = x * np.float32(1 + 2e-7 * (len(x) > 1))
        return np.where(np.abs(x) > 1e4, np.sin(nudged * np.float32(1e6)), nudged)

    assert Puppet(Datatype.FP32, chaotic).tried().mixed_because is None


def test_the_same_noise_in_every_row_is_told_from_mixing() -> None:
    drawn = iter(range(1_000_000))
    verdict = Puppet(Datatype.INT64, lambda x: x + next(drawn)).tried()
    assert (verdict.mixed_because, verdict.unknown_because) == (None, None)
    assert verdict.erratic_because == "output 'y' is not the same for the same batch twice"


def test_noise_that_is_the_same_now_and_then_is_no_mixing() -> None:
    drawn = iter([0, 0, 1, 1, 1, 0])  # alone, alone, together, and together again
    assert Puppet(Datatype.INT64, lambda x: x + next(drawn)).tried_plainly().mixed_because is None


@pytest.mark.parametrize(("noise", "varies"), [([0, 1], True), ([0, 0], False)])
def test_answers_to_the_same_request_are_compared(noise: list[int], varies: bool) -> None:
    drawn = iter(noise)
    puppet = Puppet(Datatype.INT64, lambda x: x + next(drawn))
    request = (np.zeros((1, 200), np.int64),)
    found = answers_vary(puppet, puppet.outputs, request, puppet.run(request, ["y"]))
    assert found == ("output 'y' is not the same for the same row twice" if varies else None)
