"""The trial and the decision, with the real engine in this process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.errors import ModelLoadError
from sluice.inference.findings import WAYS, WITHOUT_TRIAL, Evidence, Independence, RowsProof
from sluice.inference.planning.warmup import Trial, try_out
from sluice.inference.serving_plan import Batched
from sluice.inference.trial.accepted_inputs import SLOW_RUN_S, Answered, find_taken, with_ranges
from sluice.inference.trial.random_inputs import Range
from sluice.inference.trial.trial import TRIAL_S
from sluice.inference.types import Datatype
from tests import influences, models
from tests.inference.backends.onnx.proof.random_graphs import influence, random_graph

CLOCK = time.process_time
"""The processor time of this process, so that tests that run beside these make no trial late."""


def _load(model: bytes, folder: Path) -> OnnxBackend:
    return OnnxBackend(models.place(model, folder), "cpu", 1)


def _tried(model: bytes, folder: Path, batched: Batched = None) -> Trial:
    return try_out(_load(model, folder), batched, clock=CLOCK)


@pytest.mark.parametrize(
    "model",
    [
        models.tiny(),
        models.mlp(),
        models.image(),
        models.two_in_two_out(),
        models.any_width(),
        models.loop(),
        models.lookup(),
        models.lookup(30_522),
        models.strings(),
        models.texts(),
        models.token_vectors(),
        *[models.identity(datatype) for datatype in Datatype],
        influences.every_row(),
        influences.word_count(),
        influences.by_own_integers(),
        influences.sum_of_two("N"),
        influences.free_picture(),
        influences.one_label(),
    ],
)
def test_models_that_keep_rows_apart_are_batched_on_the_evidence_of_a_trial(model: bytes, tmp_path: Path) -> None:
    trial = _tried(model, tmp_path, batched=True)
    assert trial.signature.batched
    assert trial.findings.evidence is Evidence.TRIED
    assert (trial.findings.missing, trial.findings.erratic_because, trial.findings.alarm) == (None, None, None)
    assert " of up to 64 rows" in trial.findings.because


@pytest.mark.parametrize(
    "model",
    [
        models.centred(),
        models.softmax_over_rows(),
        models.boxes_and_mixed_scores(),
        models.transposed_in_between(),
        influences.first_row_only(),
        influences.first_row_only(1e4),
        influences.by_largest_integer(),
        influences.mixed_if_large(100.0),
        influences.mixed_if_large(1e5),
        influences.mixed_if_sparse(),
        influences.quantised_dynamically(),
        influences.beyond_rows(2),
        influences.beyond_rows(7),
        influences.beyond_rows(16),
        influences.beyond_rows(63),
        influences.taken_from_a_table("N"),
        influences.taken_from_a_table("?", "?"),
        influences.regions("N"),
        influences.graph_network("V"),
    ],
)
def test_models_that_mix_rows_are_found_out(model: bytes, tmp_path: Path) -> None:
    trial = _tried(model, tmp_path)
    assert not trial.signature.batched
    assert trial.findings.evidence is Evidence.TRIED
    assert " of output 'y' changes with " in trial.findings.because.replace("'boxes'", "'y'")
    with pytest.raises(ModelLoadError, match=r"share batches, but row .* set it to \"unchecked\" if its rows"):
        _tried(model, tmp_path, batched=True)
    told = _tried(model, tmp_path, batched="unchecked")
    assert (told.signature.batched, told.findings.evidence) == (True, Evidence.TOLD)


def test_an_output_as_wide_as_the_longest_of_the_batch_is_found_out(tmp_path: Path) -> None:
    trial = _tried(influences.words(), tmp_path)
    assert (trial.signature.batched, trial.findings.evidence) == (False, Evidence.TRIED)
    assert "of output 'words' has the shape " in trial.findings.because


def test_an_output_that_counts_detections_is_found_out_under_any_name(tmp_path: Path) -> None:
    assert _tried(influences.detections("N"), tmp_path).findings.because == (
        "axis 0 of output 'boxes' does not follow the rows: 1 in, 0 out"
    )


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        (influences.first_row_only(1e7), "output 'boxes' said the same of all "),
        (influences.every_row(1e7), "output 'boxes' said the same of all "),
        (models.lookup(0), "the model refused all rows that it was tried with: "),
        (models.lookup(1), "no two rows that differ in input 'index' were taken"),
        (models.noisy(), "output 'y' is not the same for the same batch twice"),
        (influences.noise_beyond(1e5), "output 'y' is not the same for the same batch twice"),
        (influences.detections(), "axis 0 of output 'boxes' is 'D', which is axis 0 of no input"),
        (influences.taken_from_a_table(), "axis 0 of the inputs has different names ('V' of 'table', 'N' of 'index')"),
        (influences.regions(), "axis 0 of the inputs has different names ('N' of 'x', 'R' of 'boxes', 'R' of 'of')"),
        (influences.graph_network(), "axis 0 of the inputs has different names "),
        (influences.sum_of_two(), "axis 0 of the inputs has different names ('N' of 'x', 'M' of 'z')"),
    ],
)
def test_what_could_not_be_shown_is_served_alone_and_what_is_missing_is_said(
    model: bytes, missing: str, tmp_path: Path
) -> None:
    findings = _tried(model, tmp_path).findings
    assert not _tried(model, tmp_path).signature.batched
    assert findings.evidence is Evidence.NONE
    assert findings.missing is not None
    assert findings.missing.startswith(missing)
    with pytest.raises(ModelLoadError) as caught:
        _tried(model, tmp_path, batched=True)
    assert [way for way in WAYS if way in str(caught.value)] == list(findings.ways)
    a_sample_could_help = not missing.startswith("axis 0 of ") and "is not the same" not in missing
    assert findings.ways == (WAYS if a_sample_could_help else WITHOUT_TRIAL)
    assert _tried(model, tmp_path, batched="unchecked").signature.batched


def test_rows_that_only_other_values_than_zeros_lose_are_found_out(tmp_path: Path) -> None:
    because = _tried(models.drops_negative_rows("N"), tmp_path).findings.because
    assert because.startswith("axis 0 of output 'y' does not follow the rows: ")


def _told(proof: RowsProof) -> Callable[[], RowsProof]:
    return lambda: proof


PROVEN = RowsProof(Independence.PROVEN, "every operator keeps rows apart")
MIXED = RowsProof(Independence.MIXED, "ReduceMean takes the mean over axis 0")


def test_a_proof_batches_what_could_not_be_tried(tmp_path: Path) -> None:
    for place, model in enumerate((models.lookup(0), influences.sum_of_two(), influences.every_row(1e7))):
        trial = try_out(_load(model, tmp_path / str(place)), True, _told(PROVEN), clock=CLOCK)
        assert trial.signature.batched
        assert (trial.findings.evidence, trial.findings.because) == (Evidence.PROVEN, PROVEN.because)


def test_a_graph_that_mixes_rows_is_not_refuted_by_a_trial(tmp_path: Path) -> None:
    backend = _load(models.tiny(), tmp_path)
    trial = try_out(backend, None, _told(MIXED), clock=CLOCK)
    assert (trial.signature.batched, trial.findings.evidence) == (False, Evidence.PROVEN)
    assert trial.findings.because == MIXED.because
    with pytest.raises(ModelLoadError, match=f"share batches, but {MIXED.because}. Leave"):
        try_out(backend, True, _told(MIXED), clock=CLOCK)


def test_no_trial_is_believed_where_rows_may_mix_that_it_does_not_draw(tmp_path: Path) -> None:
    unsure = RowsProof(Independence.UNKNOWN, "ReduceMean takes axis 0 together, where the rows should be", hidden=True)
    findings = try_out(_load(models.tiny(), tmp_path), None, _told(unsure), clock=CLOCK).findings
    assert (findings.evidence, findings.ways) == (Evidence.NONE, WITHOUT_TRIAL)
    assert unsure.because in (findings.missing or "")
    trusted = RowsProof(Independence.UNKNOWN, "an operator is not known")
    assert (
        try_out(_load(models.tiny(), tmp_path), None, _told(trusted), clock=CLOCK).findings.evidence is Evidence.TRIED
    )


@pytest.mark.parametrize("model", [models.centred(), models.nonzero(), influences.quantised_dynamically()])
def test_a_trial_that_contradicts_the_proof_unbatches_the_model_and_raises_an_alarm(
    model: bytes, tmp_path: Path
) -> None:
    trial = try_out(_load(model, tmp_path), None, _told(PROVEN), clock=CLOCK)
    assert (trial.signature.batched, trial.findings.evidence) == (False, Evidence.TRIED)
    assert trial.findings.alarm is not None
    assert PROVEN.because in trial.findings.alarm
    assert trial.findings.because in trial.findings.alarm


def test_labels_of_one_row_are_declared_of_any_number_where_a_run_shows_that(tmp_path: Path) -> None:
    for batched in (None, True, "unchecked"):
        trial = _tried(influences.one_label(), tmp_path, batched)
        assert [spec.shape for spec in trial.signature.outputs] == [(None,), (None, 3)]
    assert [spec.shape for spec in _tried(influences.one_label(), tmp_path, False).signature.outputs] == [
        (1,),
        (None, 3),
    ]


@pytest.mark.parametrize("batched", [None, "unchecked"])
def test_one_label_for_all_rows_is_what_it_declares(batched: Batched, tmp_path: Path) -> None:
    trial = _tried(influences.one_label_for_all(), tmp_path, batched)
    assert not trial.signature.batched
    assert trial.findings.because == "axis 0 of output 'label' has the fixed size 1"
    assert trial.signature.outputs[0].shape == (1,)


def test_inputs_that_the_model_takes_are_found_for_those_who_measure(tmp_path: Path) -> None:
    picture = _tried(influences.free_picture(), tmp_path / "picture").taken
    assert picture is not None
    assert picture.shapes == ((1, 3, 32, 32),)
    small = _tried(models.any_width(), tmp_path / "width").taken
    assert small is not None
    assert small.shapes == ((1, 1),)


def test_a_model_that_varies_is_known_to_whoever_decides(tmp_path: Path) -> None:
    for batched in (None, False, "unchecked"):
        findings = _tried(models.noisy(), tmp_path, batched).findings
        assert findings.erratic_because is not None
        assert findings.erratic_because.startswith("output 'y' is not the same for the same ")


def test_a_trial_ends_in_its_time_and_says_what_it_left_out(tmp_path: Path) -> None:
    backend = _load(models.tiny(), tmp_path)
    now_s = 0.0

    def slow_clock() -> float:
        nonlocal now_s
        now_s += TRIAL_S / 40
        return now_s

    findings = try_out(backend, clock=slow_clock).findings
    assert findings.evidence is Evidence.TRIED
    assert "; left out: " in findings.because
    assert "batches of 64 rows" in findings.because


@pytest.mark.parametrize("stalled", range(2, 26))
def test_a_machine_that_was_busy_for_a_moment_hides_no_integers(stalled: int, tmp_path: Path) -> None:
    backend = _load(models.lookup(5), tmp_path)
    found = find_taken(backend, None, stacked=True, clock=lambda: 0.0)
    assert isinstance(found, Answered)
    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return 0.0 if readings < stalled else 2 * SLOW_RUN_S

    taken, unsought = with_ranges(backend, found, None, clock)
    assert (taken.ranges, unsought) == ((Range(-4, 4),), None)


def test_a_trial_of_random_graphs_batches_none_that_mixes_rows_and_contradicts_no_proof(tmp_path: Path) -> None:
    """A search with real runs tells which graphs mix rows. Each is tried without a proof first, and then with it."""
    found: Counter[tuple[bool, bool]] = Counter()
    for seed in range(150):
        graph = random_graph(seed)
        if graph is None:
            continue
        backend, mixes = _load(graph.model, tmp_path), influence(graph, seed) is not None
        batched = try_out(backend, clock=CLOCK).signature.batched
        found[mixes, batched] += 1
        assert not (mixes and batched), f"seed {seed}: {' '.join(graph.operators)}"
        proof = prove(tmp_path / "model.onnx")
        assert try_out(backend, None, _told(proof), clock=CLOCK).findings.alarm is None, f"seed {seed}"
    assert found[False, True] >= 0.9 * (found[False, True] + found[False, False])
    assert found[True, False] > 50


def _first_row_from_id(least: int) -> bytes:
    """A table of 2,000 entries that is looked up, and of the ids above `least` in the first row of a batch only."""
    return influences.first_row_only_of_ids(least, 2000)


def test_ids_are_tried_over_the_whole_table(tmp_path: Path) -> None:
    trial = _tried(_first_row_from_id(1500), tmp_path)
    assert (trial.signature.batched, trial.findings.evidence) == (False, Evidence.TRIED)


def test_where_integers_cannot_be_sought_those_of_a_sample_count(tmp_path: Path) -> None:
    for name, model, batched in (("mixed", _first_row_from_id(1500), False), ("apart", models.lookup(2000), True)):
        backend = _load(model, tmp_path / name)
        backend.checks_integers = False
        missing = try_out(backend, clock=CLOCK).findings.missing
        assert missing is not None
        assert missing.startswith("integers are not sought on a GPU")
        np.savez(tmp_path / name / "sample.npz", index=np.array([3, 1999]))
        trial = try_out(backend, sample=tmp_path / name / "sample.npz", clock=CLOCK)
        assert (trial.signature.batched, trial.findings.evidence) == (batched, Evidence.TRIED)


def test_rows_of_a_sample_show_what_random_ones_do_not(tmp_path: Path) -> None:
    for name, model, evidence in (
        ("first", influences.first_row_only(1e7), Evidence.TRIED),
        ("every", influences.every_row(1e7), Evidence.TRIED),
    ):
        backend = _load(model, tmp_path / name)
        np.savez(tmp_path / name / "sample.npz", x=np.full((1, 8), 2e7, np.float32))
        trial = try_out(backend, sample=tmp_path / name / "sample.npz", clock=CLOCK)
        assert trial.findings.evidence is evidence
        assert trial.signature.batched is (name == "every")
