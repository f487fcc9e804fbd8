from __future__ import annotations

import numpy as np
import pytest

from sluice.gateway.inputs.text.embedder import embedder_of
from sluice.inference.config.model_config import TextConfig
from sluice.inference.errors import InvalidRequest, ModelFailed, RepositoryError, RequestTooLarge
from sluice.inference.types import Array, Datatype, TensorSpec
from tests.gateway.inputs.text.embedders import CONFIG, Letters, embedder, signature_of, tokens_spec


def changed(**keys: object) -> TextConfig:
    return TextConfig.model_validate(CONFIG.model_dump() | keys)


def test_texts_go_by_their_length_and_none_is_padded() -> None:
    parts = embedder().parts([[1, 2], [3], [4, 5], [6, 7, 8]])
    assert parts.places == ((0, 2), (1,), (3,))
    ids = [[tensor.array.tolist() for tensor in inputs if tensor.name == "ids"] for inputs in parts.inputs]
    assert ids == [[[[1, 2], [4, 5]]], [[[3]]], [[[6, 7, 8]]]]
    for inputs in parts.inputs:
        assert [(tensor.name, tensor.array.dtype.name) for tensor in inputs] == [("ids", "int64"), ("mask", "int64")]
        assert inputs[1].array.shape == inputs[0].array.shape
        assert inputs[1].array.all()


def test_a_model_that_is_not_batched_has_each_text_by_itself() -> None:
    alone = embedder(signature=signature_of(batched=False))
    assert alone.parts([[1, 2], [3, 4]]).places == ((0,), (1,))


def test_token_types_are_zeros_and_inputs_have_the_models_own_datatypes() -> None:
    signature = signature_of(
        tokens_spec("input_ids", Datatype.INT32), tokens_spec("token_type_ids"), tokens_spec("attention_mask")
    )
    found = embedder(TextConfig(pooling="cls", output="vectors"), signature).parts([[7, 8]]).inputs[0]
    assert {tensor.name: (tensor.array.dtype.name, tensor.array.tolist()) for tensor in found} == {
        "input_ids": ("int32", [[7, 8]]),
        "attention_mask": ("int64", [[1, 1]]),
        "token_type_ids": ("int64", [[0, 0]]),
    }


def test_embeddings_come_in_the_order_of_the_texts_and_padding_does_not_count() -> None:
    plain = embedder(changed(normalise=False))
    parts = plain.parts([[0, 1], [2], [3, 4]])
    padding = [99.0, 99.0]
    pairs: Array = np.array([[[1, 2], [3, 4], padding], [[5, 6], [7, 8], padding]], np.float32)
    single: Array = np.array([[[9, 9], padding, padding]], np.float32)
    assert plain.embeddings(parts, [pairs, single], None).tolist() == [[2, 3], [9, 9], [6, 7]]


def test_without_pooling_the_models_vectors_are_the_embeddings() -> None:
    pooled = embedder(changed(pooling="none", output="pooled", normalise=False))
    parts = pooled.parts([[0, 1], [2]])
    outputs = [np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)]
    assert pooled.embeddings(parts, outputs, None).tolist() == [[1, 2], [3, 4]]


def test_fewer_dimensions_are_the_first_ones_scaled_again() -> None:
    few = embedder(changed(pooling="none", output="pooled", dimensions=True))
    parts, outputs = few.parts([[0]]), [np.array([[3, 4]], np.float32)]
    assert np.allclose(few.embeddings(parts, outputs, 2), [[0.6, 0.8]])
    assert few.embeddings(parts, outputs, 1).tolist() == [[1]]
    with pytest.raises(InvalidRequest, match="3 dimensions are wanted; the model has 2"):
        few.embeddings(parts, outputs, 3)


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (np.zeros((1, 1, 2), np.float32), r"shape \[1, 1, 2\] for texts of 2 tokens; expected \[1, 2, dimensions\]"),
        (np.zeros((2, 2, 2), np.float32), "expected"),
        (np.zeros((1, 2), np.float32), "expected"),
        (np.full((1, 2, 2), np.nan, np.float32), "not finite"),
        (np.full((1, 2, 2), 3e38, np.float32), "not finite"),
    ],
)
def test_outputs_that_cannot_be_pooled_are_the_models_fault(output: Array, fault: str) -> None:
    with pytest.raises(ModelFailed, match=fault):
        embedder().embeddings(embedder().parts([[0, 1]]), [output], None)


def test_long_and_empty_texts_are_refused() -> None:
    assert embedder().tokenise(["a", "abcdefgh"]) == [[0], list(range(8))]
    with pytest.raises(InvalidRequest, match="text 1 has 9 tokens; the model's maximum is 8"):
        embedder().tokenise(["a", "abcdefghi"])
    with pytest.raises(InvalidRequest, match="text 1 is empty"):
        embedder().tokenise(["a", ""])
    with pytest.raises(InvalidRequest, match="text 0 has no tokens"):
        embedder().tokenise([" "])
    with pytest.raises(RequestTooLarge, match="the texts have 6 characters; one call takes at most 5"):
        embedder(changed(max_characters=5)).tokenise(["abc", "def"])


@pytest.mark.parametrize("token", [-1, 26, 10**30, -(10**4000)])
def test_tokens_that_the_model_does_not_have_are_refused(token: int) -> None:
    embedder().check([[0, 25]])
    with pytest.raises(InvalidRequest, match=r"text 1 has the token .*; the model's tokens are 0 to 25"):
        embedder().check([[0], [1, token]])


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"ids": "tokens"}, r"text\.ids: the model has no input 'tokens'; it has 'ids', 'mask'"),
        ({"mask": "masc"}, r"text\.mask: the model has no input 'masc'"),
        ({"types": "types"}, r"text\.types: the model has no input 'types'"),
        ({"mask": None}, r"nothing would be sent to the input 'mask'"),
        ({"output": None}, r"text\.output: say which one of 'vectors', 'pooled'"),
        ({"output": "nothing"}, r"text\.output: the model has no output 'nothing'"),
        ({"output": "pooled"}, r'with text\.pooling = "mean", expected floats of shape \[-1, -1, dimensions\]'),
        ({"pooling": "none"}, r'with text\.pooling = "none", expected floats of shape \[-1, dimensions\]'),
    ],
)
def test_what_does_not_suit_the_model_is_told_at_load(keys: dict[str, object], fault: str) -> None:
    with pytest.raises(RepositoryError, match=fault):
        embedder(changed(**keys))


@pytest.mark.parametrize(
    "ids",
    [
        TensorSpec("ids", Datatype.FP32, (None, None)),
        TensorSpec("ids", Datatype.INT64, (None,)),
        TensorSpec("ids", Datatype.INT64, (None, 16)),
        TensorSpec("ids", Datatype.INT64, (4, None)),
    ],
)
def test_an_input_that_takes_no_texts_of_any_length_is_refused_at_load(ids: TensorSpec) -> None:
    with pytest.raises(RepositoryError, match=r"expected INT64 or INT32 of shape \[-1, -1\]"):
        embedder_of(CONFIG, signature_of(ids, tokens_spec("mask")), Letters())
