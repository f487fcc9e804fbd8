from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from sluice.inference.errors import ModelFailed, ModelLoadError
from sluice.inference.findings import Evidence
from sluice.inference.planning.warmup import try_out, warm
from sluice.inference.types import STORAGE, Arrays, Datatype, Shape, Signature, TensorSpec


class PuppetBackend:
    """Has the declared shapes, and answers with zeros of shapes given by rows; it refuses the rows of `None`.

    With a `row_shape`, it answers any number of rows, each with its own sum.
    """

    def __init__(self, declared_input: tuple[int | None, ...], declared_output: tuple[int | None, ...]) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", Datatype.FP32, declared_input),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", Datatype.FP32, declared_output),)
        self.axis_names: Mapping[str, str] = {}
        self.checks_integers = True
        self.answers: dict[int, Shape | None] = {}
        self.row_shape: Shape | None = None
        self.seen: list[Arrays] = []

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        assert list(outputs) == ["y"]
        self.seen.append(arrays)
        rows = arrays[0].shape[0] if arrays and arrays[0].ndim else 1
        if self.row_shape is not None:
            sums = arrays[0].reshape(rows, -1).sum(axis=1).reshape(rows, *[1] * len(self.row_shape))
            return (np.broadcast_to(sums, (rows, *self.row_shape)).copy(),)
        shape = self.answers.get(rows)
        if shape is None:
            raise ModelFailed("zeros will not do")
        return (np.zeros(shape, np.float32),)


def test_a_model_whose_outputs_follow_the_rows_is_batched() -> None:
    backend = PuppetBackend((None, 4), (None, 3))
    backend.row_shape = (3,)
    trial = try_out(backend)
    assert trial.signature == Signature(backend.inputs, backend.outputs, batched=True)
    assert trial.findings.evidence is Evidence.TRIED


def test_zeros_are_of_the_declared_shape_with_size_1_for_other_open_axes() -> None:
    backend = PuppetBackend((None, 4, None), (None,))
    backend.row_shape = ()
    try_out(backend)
    assert [array.shape for (array,) in backend.seen[:2]] == [(1, 4, 1), (2, 4, 1)]
    assert all(not array.any() for (array,) in backend.seen[:2])


def test_bytes_are_tried_empty() -> None:
    backend = PuppetBackend((None, 2), (None,))
    backend.inputs = (TensorSpec("x", Datatype.BYTES, (None, 2)),)
    backend.answers = {1: (1,), 2: (2,)}
    try_out(backend)
    assert backend.seen[0][0].dtype == STORAGE[Datatype.BYTES]
    assert backend.seen[0][0].tolist() == [[b"", b""]]


@pytest.mark.parametrize(
    ("declared_input", "declared_output", "answers", "reason"),
    [
        ((1, 4), (None, 3), {1: (1, 3)}, "axis 0 of input 'x' has the fixed size 1"),
        ((None, 4), (1, 3), {1: (1, 3)}, "axis 0 of output 'y' has the fixed size 1"),
        ((), (None,), {1: (1,)}, "input 'x' is a single value, without an axis for rows"),
        ((None,), (), {1: ()}, "output 'y' is a single value, without an axis for rows"),
        ((None, 4), (None, 2), {1: (0, 2), 2: (0, 2)}, "axis 0 of output 'y' does not follow the rows: 1 in, 0 out"),
        ((None, 4), (None,), {1: (1,), 2: (1,)}, "axis 0 of output 'y' does not follow the rows: 2 in, 1 out"),
        ((None, 4), (None,), {1: (1,), 2: None}, "the model takes one row but not two: zeros will not do"),
    ],
)
def test_a_model_that_is_not_batched_says_why(
    declared_input: tuple[int | None, ...],
    declared_output: tuple[int | None, ...],
    answers: dict[int, Shape | None],
    reason: str,
) -> None:
    backend = PuppetBackend(declared_input, declared_output)
    backend.answers = answers
    trial = try_out(backend)
    assert trial.findings.because == reason
    assert not trial.signature.batched


def test_a_model_that_refuses_everything_is_not_believed() -> None:
    trial = try_out(PuppetBackend((None, 4), (None, 3)))
    assert not trial.signature.batched
    assert trial.findings.evidence is Evidence.NONE
    assert trial.findings.missing is not None
    assert trial.findings.missing.startswith("the model refused all rows that it was tried with: zeros will not do")
    assert trial.taken is None
    assert trial.findings.notes[0].endswith("for it took nothing that it was tried with: zeros will not do")


def test_the_same_answer_to_all_rows_is_no_evidence() -> None:
    backend = PuppetBackend((None, 4), (None, 3))
    backend.answers = {rows: (rows, 3) for rows in range(1, 65)}
    trial = try_out(backend)
    assert not trial.signature.batched
    assert trial.findings.missing is not None
    assert trial.findings.missing.startswith("output 'y' said the same of all ")


def test_the_operators_no_counts_without_a_trial_of_two_rows() -> None:
    backend = PuppetBackend((None, 4), (None, 3))
    backend.answers = {1: (1, 3), 2: (2, 3)}
    trial = try_out(backend, batched=False)
    assert not trial.signature.batched
    assert (trial.findings.evidence, trial.findings.because) == (Evidence.TOLD, "model.toml or the settings say so")
    assert {len(array) for (array,) in backend.seen} == {1}


def test_the_operators_unchecked_does_not_count_against_a_declared_size() -> None:
    backend = PuppetBackend((1, 4), (1, 3))
    backend.answers = {1: (1, 3)}
    assert try_out(backend, batched="unchecked").findings.because == "axis 0 of input 'x' has the fixed size 1"


@pytest.mark.parametrize(
    ("declared_input", "answers", "reason"),
    [
        ((1, 4), {1: (1, 3)}, "axis 0 of input 'x' has the fixed size 1"),
        ((None, 4), {1: (1, 3), 2: (1, 3)}, "axis 0 of output 'y' does not follow the rows: 2 in, 1 out"),
        ((None, 4), {1: (1, 3), 2: None}, "the model takes one row but not two: zeros will not do"),
    ],
)
def test_demanded_batching_refuses_a_model_whose_first_axis_is_not_the_batch_axis(
    declared_input: tuple[int | None, ...], answers: dict[int, Shape | None], reason: str
) -> None:
    backend = PuppetBackend(declared_input, (None, 3))
    backend.answers = answers
    with pytest.raises(ModelLoadError, match=re.escape(f"share batches, but {reason}. Leave")):
        try_out(backend, batched=True)


def test_demanded_batching_takes_a_model_that_keeps_rows_apart() -> None:
    backend = PuppetBackend((None, 4), (None, 3))
    backend.row_shape = (3,)
    assert try_out(backend, batched=True).signature.batched


@pytest.mark.parametrize(("batched", "rows"), [(True, [1, 2]), (False, [1])])
def test_another_engine_of_a_known_model_is_warmed_up_and_not_tried(batched: bool, rows: list[int]) -> None:
    backend = PuppetBackend((None, 4), (None, 3))
    backend.row_shape = (3,)
    warm(backend, Signature(backend.inputs, backend.outputs, batched), None)
    assert [len(array) for (array,) in backend.seen] == rows


def test_a_model_without_inputs_is_not_batched() -> None:
    backend = PuppetBackend((None,), (None,))
    backend.inputs = ()
    backend.answers = {1: (1,)}
    assert try_out(backend).findings.because == "the model has no inputs"


def test_a_run_shows_the_rank_that_the_engine_could_not_tell() -> None:
    backend = PuppetBackend((None, 4), ())
    backend.row_shape = (3,)
    trial = try_out(backend)
    assert trial.signature.outputs[0].shape == (None, None)
    assert trial.signature.batched
