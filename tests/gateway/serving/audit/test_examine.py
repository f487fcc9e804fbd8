"""What a difference between a row in a batch and the row alone means."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from sluice.gateway.serving.audit.examine import LOOKS, AuditFinding, Suspicions
from sluice.gateway.telemetry.labels import AuditOutcome
from sluice.inference.types import Array, Arrays, Datatype, TensorSpec
from tests.gateway.serving.audit import acting
from tests.gateway.serving.audit.acting import Model, finding_of, sample

ROWS = np.arange(24, dtype=np.float32).reshape(8, 3) + 1
LABEL = (TensorSpec("label", Datatype.INT64, (None,)),)
LABEL_AND_SCORES = (*LABEL, TensorSpec("scores", Datatype.FP32, (None, 3)))


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_row_that_is_alike_costs_one_run(place: int) -> None:
    assert finding_of(acting.doubled, sample(acting.doubled, ROWS, place)) == (AuditFinding(AuditOutcome.ALIKE), [1])


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (acting.centred, ROWS),
        (acting.late, 10 * ROWS),
        (acting.as_wide_as_the_longest, np.tile(np.array([[1], [2], [3], [1]], np.float32), (1, 4))),
        (lambda x: (x / x.max(),), ROWS),
        (lambda x: (np.cumsum(x, axis=0),), ROWS),
        (lambda x: (np.sort(x, axis=0)[::-1],), ROWS),
    ],
    ids=["centred", "late", "longest", "scaled", "summed up", "sorted"],
)
def test_rows_that_change_each_other_are_found_out(model: Model, x: Array) -> None:
    finding, runs = finding_of(model, sample(model, x, 1, cuts=[1, 2]))
    assert finding.outcome is AuditOutcome.MIXED
    assert finding.output == "y"
    assert "output 'y'" in finding.because
    assert runs == [1, 1, len(x), len(x), len(x), len(x)]


def test_outputs_that_have_the_rows_by_chance_are_found_out() -> None:
    def found(x: Array) -> Arrays:
        return (np.repeat(x, x[:, 0].astype(int), axis=0),)

    x = np.array([[1], [2], [0]], np.float32)
    finding, _ = finding_of(found, sample(found, x, 1))
    assert finding.outcome is AuditOutcome.MIXED
    assert finding.because == "axis 0 of output 'y' does not follow the rows: 3 in, 6 out"


def test_outputs_that_never_had_the_rows_are_found_out() -> None:
    def pairs(x: Array) -> Arrays:
        return (np.repeat(x, 2, axis=0),)

    finding, runs = finding_of(pairs, sample(pairs, ROWS))
    assert (finding.outcome, finding.output, runs) == (AuditOutcome.MIXED, "y", [8])


@pytest.mark.parametrize(("model", "place"), [(acting.first_only, 3), (acting.shared_out, 0)], ids=["place", "size"])
def test_what_the_place_or_the_size_does_is_suspect(model: Model, place: int) -> None:
    finding, _ = finding_of(model, sample(model, ROWS, place))
    assert (finding.outcome, finding.output) == (AuditOutcome.SUSPECT, "y")
    assert "place in the batch" in finding.because


def test_what_a_row_that_is_well_placed_does_not_show_is_not_seen() -> None:
    assert finding_of(acting.first_only, sample(acting.first_only, ROWS, 0))[0].outcome is AuditOutcome.ALIKE


def test_a_model_that_never_says_the_same_twice_is_no_mixer() -> None:
    rng = np.random.default_rng(1)

    def noisy(x: Array) -> Arrays:
        return (x + rng.standard_normal(x.shape).astype(np.float32),)

    for place in range(8):
        assert finding_of(noisy, sample(noisy, ROWS, place))[0].outcome is AuditOutcome.NOISE


@pytest.mark.parametrize("part", [0.05, 0.3, 0.7])
def test_a_model_that_has_moods_is_no_mixer(part: float) -> None:
    """Most of the time it is right; now and then, an answer is off."""
    random = Random(2)

    def moody(x: Array) -> Arrays:
        return (x + np.float32(random.random() < part) * np.float32(random.random()),)

    found = [finding_of(moody, sample(moody, ROWS, place % 8))[0].outcome for place in range(2000)]
    assert set(found) <= {AuditOutcome.ALIKE, AuditOutcome.NOISE, AuditOutcome.SUSPECT}


def test_rounding_that_comes_with_the_size_is_no_mixing() -> None:
    def half(x: Array) -> Arrays:
        """As an engine that computes single rows in float16 and others in float32, with large values in between."""
        return ((x.astype(np.float16) if len(x) == 1 else x).astype(np.float32) * np.float32(0.1),)

    x = np.random.default_rng(3).standard_normal((8, 3)).astype(np.float32)
    for place in range(8):
        assert finding_of(half, sample(half, x, place))[0].outcome in (AuditOutcome.ALIKE, AuditOutcome.NOISE)


def test_a_class_that_rounding_decides_is_no_mixing() -> None:
    """Two scores are equal but for rounding: the class flips with the size of the batch, the scores hardly move."""

    def classify(x: Array) -> Arrays:
        scores = x + np.float32(1e-6) * np.eye(3, dtype=np.float32)[int(len(x) == 1)]
        return (scores.argmax(axis=1), scores)

    x = np.ones((4, 3), np.float32)
    taken = sample(classify, x, 1, outputs=("label", "scores"))
    assert finding_of(classify, taken, LABEL_AND_SCORES)[0].outcome is AuditOutcome.NOISE


def test_a_class_alone_on_a_knifes_edge_is_no_mixing() -> None:
    def classify(x: Array) -> Arrays:
        nudge = np.float32(2e-7) if len(x) == 1 else np.float32(0)
        return ((x[:, 0] + nudge > x[:, 1]).astype(np.int64),)

    x = np.ones((4, 2), np.float32)
    assert finding_of(classify, sample(classify, x, 1, outputs=("label",)), LABEL)[0].outcome is AuditOutcome.NOISE


def test_a_class_that_neighbours_decide_is_mixing() -> None:
    def classify(x: Array) -> Arrays:
        return ((x[:, 0] > x[:, 0].mean()).astype(np.int64),)

    finding, _ = finding_of(classify, sample(classify, ROWS, 7, outputs=("label",)), LABEL)
    assert (finding.outcome, finding.output) == (AuditOutcome.MIXED, "label")


def test_a_part_of_a_large_batch_is_enough() -> None:
    x = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    taken = sample(acting.centred, x, 3, cuts=[10, 500, 990], kept_bytes=2048)
    assert (taken.rows, taken.whole) == (64, False)
    assert finding_of(acting.centred, taken)[0].outcome is AuditOutcome.MIXED
    assert finding_of(acting.doubled, sample(acting.doubled, x, kept_bytes=2048))[0].outcome is AuditOutcome.ALIKE


def test_one_row_of_a_large_batch_can_be_suspect_only() -> None:
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    taken = sample(acting.centred, x, kept_bytes=32)
    assert taken.rows == 1
    assert finding_of(acting.centred, taken)[0].outcome is AuditOutcome.SUSPECT


def test_a_model_that_refuses_a_row_alone_is_left_alone() -> None:
    def pairs_only(x: Array) -> Arrays:
        if len(x) < 2:
            raise ValueError
        return (x,)

    finding, _ = finding_of(pairs_only, sample(pairs_only, ROWS))
    assert finding == AuditFinding(AuditOutcome.UNFINISHED, because="the model refused the row alone")


def test_suspicions_add_up_for_different_rows() -> None:
    suspicions, suspect = Suspicions(), AuditFinding(AuditOutcome.SUSPECT, "y", "why")
    assert not suspicions.open
    assert suspicions.weigh(suspect, 1) == suspect
    assert suspicions.open
    for _ in range(5):
        assert suspicions.weigh(suspect, 1) == suspect
    assert suspicions.weigh(AuditFinding(AuditOutcome.ALIKE), 9).outcome is AuditOutcome.ALIKE
    assert suspicions.weigh(suspect, 2) == suspect
    assert suspicions.weigh(suspect, 3) == AuditFinding(AuditOutcome.MIXED, "y", "why")


def test_few_suspects_among_many_are_forgotten() -> None:
    suspicions = Suspicions()
    for number in range(200):
        outcome = AuditOutcome.SUSPECT if number % (LOOKS - 1) == 0 else AuditOutcome.ALIKE
        assert suspicions.weigh(AuditFinding(outcome, "y"), number).outcome is outcome
    for number in range(LOOKS):
        suspicions.weigh(AuditFinding(AuditOutcome.NOISE), number)
    assert not suspicions.open
