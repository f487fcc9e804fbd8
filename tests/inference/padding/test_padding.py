"""Padding: what the model sees, what the callers get, what is counted, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.inference.backends.onnx.session import OnnxBackend
from sluice.inference.config.model_config import CutOutput, PaddedInput, PaddingConfig
from sluice.inference.errors import InvalidRequest, ModelFailed, RepositoryError, RequestTooLarge
from sluice.inference.padding.padding import Cut, Length, Padding
from sluice.inference.padding.rules import fill_value
from sluice.inference.planning.warmup import try_out
from sluice.inference.signature import shape_key
from sluice.inference.types import STORAGE, Array, Arrays, Datatype, Signature, TensorSpec
from tests import models
from tests.inference.running import assert_same

Tables: TypeAlias = Mapping[str, Mapping[str, Any]]

MIB = 1024 * 1024
BUCKETS = (4, 8, 16)

VALUES: Mapping[Datatype, list[int | float]] = {
    Datatype.BOOL: [0, 1],
    Datatype.UINT64: [0, 2**64 - 1],
    Datatype.INT64: [0, -1, -(2**63), 2**53 + 1],
    Datatype.FP16: [0, -65504, 0.1],
    Datatype.FP32: [0, -3.4e38],
    Datatype.FP64: [0, 1.7e308],
    Datatype.BF16: [0, -1e38],
    Datatype.BYTES: [0],
}


def spec(name: str, *inner: int | None, datatype: Datatype = Datatype.INT64) -> TensorSpec:
    return TensorSpec(name, datatype, (None, *inner))


IDS, MASK, LOGITS, POOLED = spec("ids", None), spec("mask", None), spec("logits", None, 2), spec("pooled", 2)
TEXTS = Signature((IDS, MASK), (LOGITS, POOLED), batched=True)


def padding(
    signature: Signature,
    inputs: Tables,
    outputs: Tables | None = None,
    max_rows: int = 100,
    max_bytes: int = MIB,
) -> Padding:
    config = PaddingConfig(
        inputs={name: PaddedInput(**each) for name, each in inputs.items()},
        outputs={name: CutOutput(**each) for name, each in (outputs or {}).items()},
    )
    return Padding(signature, config, max_rows=max_rows, max_bytes=max_bytes)


def one_input(datatype: Datatype = Datatype.INT64, axis: int = 1, axes: int = 2, value: float = 0) -> Padding:
    """For a model from `x` to `y`, which follows it."""
    inner = (None,) * (axes - 1)
    signature = Signature((spec("x", *inner, datatype=datatype),), (spec("y", *inner, datatype=datatype),), True)
    return padding(signature, {"x": {"axis": axis, "value": value, "buckets": BUCKETS}}, {"y": {"axis": axis}})


def of_texts(**outputs: Mapping[str, Any]) -> Padding:
    return padding(TEXTS, {"ids": {"value": 1, "buckets": BUCKETS}, "mask": {"like": "ids"}}, outputs or {"logits": {}})


def ints(*shape: int) -> Array:
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64).reshape(shape)


def filled(datatype: Datatype, shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if datatype is Datatype.BYTES:
        texts = np.empty(shape, np.object_)
        texts[...] = rng.integers(0, 1000, shape).astype("S").astype(np.object_)
        return texts
    return rng.integers(0, 2, shape).astype(STORAGE[datatype])


def faults(signature: Signature, inputs: Tables, outputs: Tables | None = None) -> list[str]:
    with pytest.raises(RepositoryError) as caught:
        padding(signature, inputs, outputs)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("model.toml: padding") for line in lines)
    return [line.removeprefix("model.toml: ") for line in lines]


# --- what the model sees


def test_a_text_is_padded_behind_its_end_with_the_value() -> None:
    (x,), _ = one_input(value=-7).pad((ints(2, 3),))
    assert_same(x, np.array([[1, 2, 3, -7], [4, 5, 6, -7]]))


@pytest.mark.parametrize(("sent", "seen"), [(0, 4), (1, 4), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16), (17, 17)])
def test_the_smallest_bucket_that_holds_it(sent: int, seen: int) -> None:
    (x,), cut = one_input().pad((ints(2, sent),))
    assert x.shape == (2, seen)
    assert cut.lengths == (Length(sent, seen),)


@pytest.mark.parametrize("length", [4, 17], ids=["in a bucket", "longer than the largest"])
def test_what_needs_no_padding_is_not_copied(length: int) -> None:
    sent = (ints(2, length),)
    padded, _ = one_input().pad(sent)
    assert padded[0] is sent[0]


def test_the_callers_array_is_left_as_it_was() -> None:
    sent = ints(2, 3)
    one_input().pad((sent,))
    assert_same(sent, ints(2, 3))


def test_inputs_with_buckets_of_their_own_are_padded_each_to_theirs() -> None:
    inputs: Tables = {"mask": {"buckets": [10, 20]}, "ids": {"buckets": BUCKETS}}
    (ids, mask), cut = padding(TEXTS, inputs).pad((ints(2, 5), ints(2, 11)))
    assert (ids.shape, mask.shape) == ((2, 8), (2, 20))
    assert cut.lengths == (Length(5, 8), Length(11, 20))


def test_an_input_like_another_is_padded_as_that_one_with_its_own_value() -> None:
    (ids, mask), _ = of_texts().pad((ints(1, 3), ints(1, 3)))
    assert ids.tolist() == [[1, 2, 3, 1]]
    assert mask.tolist() == [[1, 2, 3, 0]]


def test_an_input_may_come_before_the_one_that_it_is_like() -> None:
    both = padding(TEXTS, {"ids": {"like": "mask"}, "mask": {"buckets": BUCKETS}}, {"logits": {}})
    (ids, mask), cut = both.pad((ints(2, 3), ints(2, 3)))
    assert ids.shape == mask.shape == (2, 4)
    assert both.cut((ints(2, 4, 2),), ["logits"], cut)[0].shape == (2, 3, 2)


@pytest.mark.parametrize(("ids", "mask"), [(3, 4), (4, 3), (4, 1), (17, 18)])
def test_inputs_that_are_to_be_equally_long_are_refused_where_they_are_not(ids: int, mask: int) -> None:
    """Padded to the same length, they would run, and their difference would stay unnoticed."""
    expected = f"input 'mask' has {mask} elements along axis 1; expected {ids}, as many as input 'ids' has along axis 1"
    with pytest.raises(InvalidRequest) as caught:
        of_texts().pad((ints(2, ids), ints(2, mask)))
    assert str(caught.value) == expected


def test_inputs_that_are_not_configured_are_passed_on() -> None:
    only_ids = padding(TEXTS, {"ids": {"buckets": BUCKETS}})
    sent = (ints(2, 3), ints(2, 3))
    padded, _ = only_ids.pad(sent)
    assert padded[1] is sent[1]


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=20),
    buckets=st.sets(st.integers(1, 40), min_size=1, max_size=6).map(sorted),
)
def test_shape_keys_have_bucket_lengths_only_or_greater_ones(lengths: list[int], buckets: list[int]) -> None:
    signature = Signature((IDS,), (), batched=True)
    pads = padding(signature, {"ids": {"buckets": buckets}})
    for length in lengths:
        padded, cut = pads.pad((ints(1, length),))
        ((seen,),) = shape_key(signature, padded)
        assert seen in buckets or length == seen > buckets[-1]
        assert seen >= length
        assert not [each for each in buckets if length <= each < seen]
        assert cut.lengths == (Length(length, seen),)


# --- what the callers get


@given(data=st.data(), datatype=st.sampled_from(list(Datatype)), axes=st.integers(2, 4), seed=st.integers(0, 9))
def test_callers_get_what_the_model_says_without_padding(
    data: st.DataObject, datatype: Datatype, axes: int, seed: int
) -> None:
    axis = data.draw(st.integers(1, axes - 1), label="axis")
    value = data.draw(st.sampled_from(VALUES.get(datatype, [0, 1])), label="value")
    shape = tuple(data.draw(st.integers(0, 20 if at == axis else 3), label=f"size {at}") for at in range(axes))
    pads = one_input(datatype, axis, axes, value)

    def elementwise(arrays: Arrays) -> Arrays:
        """Reversed along the batch axis: rows stay whole, and no element looks at another."""
        return (arrays[0][::-1].copy(),)

    sent = (filled(datatype, shape, seed),)
    padded, cut = pads.pad(sent)
    assert padded[0].dtype == sent[0].dtype
    assert padded[0].flags.c_contiguous
    (answer,) = pads.cut(elementwise(padded), ["y"], cut)
    assert_same(answer, elementwise(sent)[0])
    assert answer.flags.c_contiguous


def test_only_the_outputs_that_follow_are_cut() -> None:
    pads = of_texts()
    _, cut = pads.pad((ints(2, 3), ints(2, 3)))
    outputs = (ints(2, 2), ints(2, 4, 2))
    pooled, logits = pads.cut(outputs, ["pooled", "logits"], cut)
    assert pooled is outputs[0]
    assert_same(logits, np.ascontiguousarray(outputs[1][:, :3]))


def test_an_output_is_cut_as_the_input_that_it_is_like() -> None:
    inputs: Tables = {"ids": {"buckets": BUCKETS}, "mask": {"buckets": BUCKETS}}
    pads = padding(TEXTS, inputs, {"logits": {"like": "mask"}})
    _, cut = pads.pad((ints(2, 3), ints(2, 5)))
    assert pads.cut((ints(2, 8, 2),), ["logits"], cut)[0].shape == (2, 5, 2)


def test_one_row_is_cut_without_a_copy() -> None:
    pads = one_input()
    _, cut = pads.pad((ints(1, 3),))
    output = ints(1, 4)
    (answer,) = pads.cut((output,), ["y"], cut)
    assert np.shares_memory(answer, output)


@pytest.mark.parametrize("length", [4, 17], ids=["in a bucket", "longer than the largest"])
def test_the_answer_to_what_was_not_padded_is_passed_on_whatever_its_size(length: int) -> None:
    pads = one_input()
    _, cut = pads.pad((ints(2, length),))
    output = ints(2, 7)
    assert pads.cut((output,), ["y"], cut)[0] is output


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3), "3"), ((2, 1), "1"), ((2, 16), "16"), ((2,), "no"), ((2, 0), "0")]
)
def test_an_output_that_does_not_follow_fails_rather_than_being_cut_wrongly(shape: tuple[int, ...], size: str) -> None:
    pads = one_input()
    _, cut = pads.pad((ints(2, 3),))
    with pytest.raises(ModelFailed) as caught:
        pads.cut((ints(*shape),), ["y"], cut)
    assert str(caught.value) == (
        f"output 'y' has {size} elements along axis 1, where input 'x' was padded to 4, so it cannot be cut back; "
        "model.toml has to say in [padding.outputs] which outputs follow which inputs"
    )


def test_outputs_that_may_have_padded_lengths_and_are_not_cut_are_known() -> None:
    inputs: Tables = {"ids": {"buckets": BUCKETS}, "mask": {"like": "ids"}}
    assert padding(TEXTS, inputs).uncut == ("logits",)
    assert padding(TEXTS, inputs, {"logits": {}}).uncut == ()


# --- what is counted, and what is refused


def test_waste_is_counted_in_elements_of_all_padded_inputs() -> None:
    _, cut = of_texts().pad((ints(2, 5), ints(2, 5)))
    assert cut == Cut((Length(5, 8),), own_elements=2 * 2 * 5, added_elements=2 * 2 * 3)


@pytest.mark.parametrize("length", [4, 17])
def test_what_needed_no_padding_has_no_waste(length: int) -> None:
    _, cut = one_input().pad((ints(2, length),))
    assert (cut.own_elements, cut.added_elements) == (2 * length, 0)


@given(shape=st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 3)))
def test_own_and_added_elements_are_all_that_the_model_sees(shape: tuple[int, int, int]) -> None:
    sent = (ints(*shape),)
    padded, cut = one_input(axes=3).pad(sent)
    assert (cut.own_elements, cut.own_elements + cut.added_elements) == (sent[0].size, padded[0].size)


def test_rows_of_no_length_cannot_ask_for_more_than_the_queue_takes() -> None:
    with pytest.raises(RequestTooLarge) as caught:
        one_input().pad((np.zeros((10**15, 0), np.int64),))
    assert str(caught.value) == f"the request has {10**15} rows; the queue takes at most 100"


def test_an_inner_axis_cannot_ask_for_more_than_the_queue_takes() -> None:
    with pytest.raises(RequestTooLarge) as caught:
        one_input(axes=3).pad((np.zeros((1, 0, 2**50), np.int64),))
    assert str(caught.value) == (
        f"the inputs have {4 * 8 * 2**50} bytes once they are padded; the queue takes at most {MIB}"
    )


def test_all_padded_inputs_count_towards_the_bytes() -> None:
    inputs: Tables = {"ids": {"buckets": BUCKETS}, "mask": {"like": "ids"}}
    sent = (ints(1, 3), ints(1, 3))
    padding(TEXTS, inputs, max_bytes=2 * 4 * 8).pad(sent)
    with pytest.raises(RequestTooLarge):
        padding(TEXTS, inputs, max_bytes=2 * 4 * 8 - 1).pad(sent)


# --- what model.toml may say for a model


def test_every_fault_is_told_at_once() -> None:
    signature = Signature((IDS, spec("image", 3, None)), (LOGITS, POOLED), batched=True)
    inputs: Tables = {
        "idz": {"buckets": [4]},
        "ids": {"axis": 2, "value": 0.5, "buckets": [4]},
        "image": {"like": "imagine"},
    }
    outputs: Tables = {"pooled": {}, "logits": {"axis": 3, "like": "mask"}, "scores": {"like": "ids"}}
    assert faults(signature, inputs, outputs) == [
        "padding.inputs.idz: unknown input; did you mean ids? The model has 'ids', 'image'",
        "padding.inputs.ids.axis = 2: expected an axis that input 'ids' has; it has 2, and the first is 0",
        "padding.inputs.ids.value = 0.5: expected a whole number from -9223372036854775808 to 9223372036854775807, "
        "as INT64 has them",
        "padding.inputs.image.axis = 1: expected an axis of any size; this one of input 'image' always has the size 3",
        "padding.inputs.image.like = \"imagine\": expected a padded input that has buckets: 'idz', 'ids'",
        "padding.outputs.pooled.axis = 1: expected an axis of any size; this one of output 'pooled' always has the "
        "size 2",
        "padding.outputs.pooled.like: several inputs are padded, each to buckets of its own; say which one's length "
        "the output follows: 'idz', 'ids'",
        "padding.outputs.logits.axis = 3: expected an axis that output 'logits' has; it has 3, and the first is 0",
        "padding.outputs.logits.like = \"mask\": expected an input that is padded: 'idz', 'ids', 'image'",
        "padding.outputs.scores: unknown output; the model has 'logits', 'pooled'",
    ]


def test_a_name_is_written_as_toml_wants_it() -> None:
    assert faults(TEXTS, {"input.1": {"buckets": [4]}})[0].startswith('padding.inputs."input.1": unknown input;')


def test_a_model_that_is_not_batched() -> None:
    (fault,) = faults(Signature((IDS,), (POOLED,), batched=False), {"ids": {"buckets": [4]}})
    assert fault.startswith("padding: the model is not batched: each request runs alone")


def test_an_output_to_cut_where_no_input_is_padded() -> None:
    assert faults(TEXTS, {}, {"logits": {}}) == [
        "padding.outputs.logits.like: no input has buckets; add [padding.inputs.NAME] for the one whose length the "
        "output follows"
    ]


@pytest.mark.parametrize("chain", [{"mask": {"like": "mask"}}, {"ids": {"like": "mask"}, "mask": {"like": "ids"}}])
def test_inputs_that_are_like_each_other_without_buckets(chain: Tables) -> None:
    found = faults(TEXTS, chain)
    assert len(found) == len(chain)
    assert all(fault.endswith("expected a padded input that has buckets: there is none") for fault in found)


@pytest.mark.parametrize(
    ("datatype", "value"), [(datatype, value) for datatype, values in VALUES.items() for value in values]
)
def test_values_that_a_datatype_holds(datatype: Datatype, value: float) -> None:
    (x,), _ = one_input(datatype, value=value).pad((filled(datatype, (1, 3), 0),))
    last = x[0, 3]
    if datatype is Datatype.BYTES:
        assert last == b""
    elif datatype is Datatype.BF16:
        assert np.array(last.astype(np.uint32) << 16).view(np.float32) == pytest.approx(value, rel=2**-8)
    else:
        assert last == STORAGE[datatype].type(value)


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        (Datatype.BOOL, 2, "expected a whole number from 0 to 1, as BOOL has them"),
        (Datatype.UINT8, -1, "expected a whole number from 0 to 255, as UINT8 has them"),
        (Datatype.INT8, 128, "expected a whole number from -128 to 127, as INT8 has them"),
        (Datatype.INT32, 1e300, "expected a whole number from -2147483648 to 2147483647, as INT32 has them"),
        (Datatype.FP16, 65520, "expected a number from -65504 to 65504, as FP16 has them"),
        (Datatype.FP32, -1e39, "expected a number from -3.40282e+38 to 3.40282e+38, as FP32 has them"),
        (Datatype.FP64, 10**400, "expected a number from -1.79769e+308 to 1.79769e+308, as FP64 has them"),
        (Datatype.BF16, 3.4e38, "expected a number from -3.38953e+38 to 3.38953e+38, as BF16 has them"),
        (Datatype.BF16, -1e39, "expected a number from -3.40282e+38 to 3.40282e+38, as BF16 has them"),
        (Datatype.BYTES, 1, "expected 0, which stands for the empty string in an input of BYTES"),
    ],
)
def test_values_that_a_datatype_does_not_hold(datatype: Datatype, value: float, expected: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        fill_value(datatype, value)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1, 0x3F80), (-2, 0xC000), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (1.005, 0x3F81), (3.3895314e38, 0x7F7F)],
)
def test_bfloat16_is_rounded_to_the_nearest_and_to_even(value: float, bits: int) -> None:
    assert fill_value(Datatype.BF16, value) == bits


# --- with the engine


def test_texts_of_different_length_share_a_batch_and_get_their_own_answers(tmp_path: Path) -> None:
    backend = OnnxBackend(models.place(models.texts(), tmp_path), "cpu", 1)
    signature = try_out(backend).signature
    config = PaddingConfig(
        inputs={"ids": PaddedInput(value=0, buckets=BUCKETS), "mask": PaddedInput(like="ids")},
        outputs={"logits": CutOutput()},
    )
    pads = Padding(signature, config, max_rows=100, max_bytes=MIB)
    names = ["pooled", "logits"]
    requests = [(ints(rows, length), np.ones((rows, length), np.int64)) for rows, length in ((1, 5), (3, 8), (2, 7))]

    padded = [pads.pad(request) for request in requests]
    assert {shape_key(signature, arrays) for arrays, _ in padded} == {((8,), (8,))}
    batch = tuple([np.concatenate(parts) for parts in zip(*[arrays for arrays, _ in padded], strict=True)])
    outputs = backend.run(batch, names)

    start = 0
    for request, (_, cut) in zip(requests, padded, strict=True):
        end = start + len(request[0])
        answers = pads.cut(tuple([array[start:end] for array in outputs]), names, cut)
        for answer, alone in zip(answers, backend.run(request, names), strict=True):
            assert_same(answer, alone)
        start = end


def test_of_hundreds_of_inputs_a_fault_lists_a_few() -> None:
    signature = Signature(tuple([spec(f"past.{place}", None, None) for place in range(300)]), (POOLED,), batched=True)
    (fault,) = faults(signature, {"ids": {"buckets": [4]}})
    assert fault.endswith("the model has " + ", ".join(f"'past.{place}'" for place in range(10)) + " and 290 more")
