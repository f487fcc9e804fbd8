"""Whether rows keep apart, with the real engine in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from inference.backends.onnx.session import OnnxBackend
from inference.errors import ModelFailed, ModelLoadError
from inference.rows import Verdict, rows_mixed
from inference.types import STORAGE, Array, Arrays, Datatype, TensorSpec
from inference.warmup import try_out
from tests import models


def _load(model: bytes, folder: Path) -> OnnxBackend:
    return OnnxBackend(models.place(model, folder), "cpu", 1)


class Puppet:
    """One input and one output of a datatype; the answer is what a function makes of the input."""

    def __init__(self, datatype: Datatype, answer: Callable[[Array], Array]) -> None:
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("x", datatype, (None, 200)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", datatype, (None, 200)),)
        self._answer = answer

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        return (self._answer(arrays[0]),)


@pytest.mark.parametrize("model", [models.centred(), models.softmax_over_rows()], ids=["centred", "softmax"])
def test_models_that_mix_rows_are_found_out(model: bytes, tmp_path: Path) -> None:
    trial = try_out(_load(model, tmp_path))
    assert trial.unbatched_because == "row 0 of output 'y' changes with the rows beside it"
    assert not trial.signature.batched


@pytest.mark.parametrize("model", [models.centred(), models.softmax_over_rows()], ids=["centred", "softmax"])
def test_the_operators_unchecked_is_believed(model: bytes, tmp_path: Path) -> None:
    assert try_out(_load(model, tmp_path), batched="unchecked").signature.batched


@pytest.mark.parametrize("model", [models.centred(), models.softmax_over_rows()], ids=["centred", "softmax"])
def test_demanded_batching_refuses_models_that_mix_rows(model: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        try_out(_load(model, tmp_path), batched=True)
    assert str(caught.value) == (
        "batching.batched = true demands that requests share batches, but row 0 of output 'y' changes with the rows "
        'beside it. Leave batching.batched unset to serve the model without batching, or set it to "unchecked" if its '
        "rows are known to be independent"
    )


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
        models.strings(),
        *[models.identity(datatype) for datatype in Datatype],
    ],
)
def test_models_that_keep_rows_apart_stay_batched(model: bytes, tmp_path: Path) -> None:
    trial = try_out(_load(model, tmp_path), batched=True)
    assert (trial.unbatched_because, trial.unproven_because) == (None, None)


def test_rows_that_only_other_values_than_zeros_lose_are_found_out(tmp_path: Path) -> None:
    reason = try_out(_load(models.drops_negative_rows(), tmp_path)).unbatched_because
    assert reason is not None
    assert reason.startswith("axis 0 of output 'y' does not follow the rows: ")


def test_a_model_that_refuses_the_rows_is_believed(tmp_path: Path) -> None:
    backend = _load(models.lookup(1), tmp_path)  # takes 0 and not 1
    verdict = rows_mixed(backend, backend.outputs)
    assert verdict.mixed_because is None
    assert verdict.unproven_because is not None
    assert verdict.unproven_because.startswith("the model refused random rows: ")


@pytest.mark.parametrize("datatype", list(Datatype))
def test_mixing_shows_in_every_datatype(datatype: Datatype) -> None:
    def last_row_for_all(x: Array) -> Array:
        return np.repeat(x[-1:], len(x), axis=0)

    backend = Puppet(datatype, last_row_for_all)
    assert rows_mixed(backend, backend.outputs).mixed_because == "row 0 of output 'y' changes with the rows beside it"


def test_a_row_that_only_the_rows_before_it_change_is_found() -> None:
    backend = Puppet(Datatype.FP32, lambda x: np.cumsum(x, axis=0, dtype=np.float32))
    assert rows_mixed(backend, backend.outputs).mixed_because == "row 1 of output 'y' changes with the rows beside it"


@pytest.mark.parametrize(("datatype", "rounding"), [(Datatype.FP32, 1e-5), (Datatype.FP16, 5e-3)])
def test_rounding_is_no_mixing(datatype: Datatype, rounding: float) -> None:
    def rounded_otherwise_in_pairs(x: Array) -> Array:
        return (x * (1 + rounding * (len(x) - 1))).astype(STORAGE[datatype])

    backend = Puppet(datatype, rounded_otherwise_in_pairs)
    assert rows_mixed(backend, backend.outputs) == Verdict()


@pytest.mark.parametrize(("flips", "mixed"), [(2, False), (3, True)])
def test_one_integer_in_a_hundred_may_flip(flips: int, mixed: bool) -> None:
    def flipped_in_pairs(x: Array) -> Array:
        flipped = x.copy()
        flipped[:, :flips] += len(x) - 1
        return flipped

    backend = Puppet(Datatype.INT64, flipped_in_pairs)
    assert (rows_mixed(backend, backend.outputs).mixed_because is not None) is mixed


def test_nan_is_equal_to_nan() -> None:
    backend = Puppet(Datatype.FP32, lambda x: np.full_like(x, np.nan))
    assert rows_mixed(backend, backend.outputs) == Verdict()


def test_small_outputs_beside_large_ones_are_compared_by_themselves(tmp_path: Path) -> None:
    trial = try_out(_load(models.boxes_and_mixed_scores(), tmp_path))
    assert trial.unbatched_because == "row 0 of output 'y' changes with the rows beside it"


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_a_neighbours_slightest_influence_shows(scale: float) -> None:
    def leaking(x: Array) -> Array:
        return ((x + 1e-4 * x[-1:] * (len(x) > 1)) * scale).astype(np.float32)

    backend = Puppet(Datatype.FP32, leaking)
    assert rows_mixed(backend, backend.outputs).mixed_because == "row 0 of output 'y' changes with the rows beside it"


def test_an_answer_that_depends_on_the_place_in_the_batch_is_found() -> None:
    backend = Puppet(Datatype.FP32, lambda x: x * (1 + 1e-4 * np.arange(len(x), dtype=np.float32)[:, np.newaxis]))
    found = rows_mixed(backend, backend.outputs).mixed_because
    assert found == "a row of output 'y' changes with its place in the batch"


def test_rows_that_mix_beyond_size_1_are_found(tmp_path: Path) -> None:
    trial = try_out(_load(models.transposed_in_between(), tmp_path))
    assert trial.unbatched_because is not None
    assert "of output 'y' changes with the rows beside it" in trial.unbatched_because


@pytest.mark.parametrize(("takes", "seen"), [((1, 3), {3}), ((1,), {3, 1})])
def test_axes_of_any_size_are_tried_with_3_and_with_1_where_that_is_refused(
    takes: tuple[int, ...], seen: set[int]
) -> None:
    widths: set[int] = set()

    def choosy(x: Array) -> Array:
        widths.add(x.shape[1])
        if x.shape[1] not in takes:
            raise ModelFailed("not this width")
        return x

    backend = Puppet(Datatype.FP32, choosy)
    backend.inputs = (TensorSpec("x", Datatype.FP32, (None, None)),)
    assert rows_mixed(backend, backend.outputs) == Verdict()
    assert widths == seen


@pytest.mark.parametrize("batched", [None, True])
def test_of_a_model_that_never_says_the_same_twice_nothing_is_known(batched: bool | None, tmp_path: Path) -> None:
    trial = try_out(_load(models.noisy(), tmp_path), batched)
    assert trial.signature.batched
    assert trial.unproven_because == "the model does not answer the same batch in the same way twice"


def test_noise_that_is_the_same_now_and_then_is_no_mixing() -> None:
    drawn = iter([0, 0, 1, 1, 1, 1, 0, 1])  # alone, alone, three pairs, and then the first pair again
    backend = Puppet(Datatype.INT64, lambda x: x + next(drawn))
    assert rows_mixed(backend, backend.outputs).mixed_because is None


def test_a_third_row_that_is_refused_alone_too_leaves_nothing_known() -> None:
    refused: list[Array] = []

    def choosy(x: Array) -> Array:
        if len(seen) == 4 and not refused:
            refused.append(x[1:])
        seen.append(x)
        if refused and any(np.array_equal(row, refused[0][0]) for row in x):
            raise ModelFailed("not this row")
        return x

    seen: list[Array] = []
    backend = Puppet(Datatype.FP32, choosy)
    assert rows_mixed(backend, backend.outputs) == Verdict(
        unproven_because="the model refused a random row: not this row"
    )
