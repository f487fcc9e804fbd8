"""Two rows share a key if, and only if, nothing about them differs that could change the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sluice.cache.keys import (
    KEY_BYTES,
    REMEMBERED_CHARACTERS,
    REMEMBERED_KINDS,
    STEP_ELEMENTS,
    CacheScope,
    Keys,
    content_bytes,
    element_keys,
    only_key,
    peek,
    row_keys,
)
from sluice.cache.turns import STEP_BYTES, STEP_ROWS
from sluice.inference.types import STORAGE, Arrays, Caching, Datatype, Parameters, Query, Signature, TensorSpec
from tests.cache.queries import query_of


def signature_of(*inputs: tuple[str, Datatype, int]) -> Signature:
    """Inputs by name, datatype and rank, the batch axis not counted; every axis is of any size."""
    specs = [TensorSpec(name, datatype, (None,) * (rank + 1)) for name, datatype, rank in inputs]
    return Signature(tuple(specs), (TensorSpec("y", Datatype.FP32, (None, 1)),), batched=True)


def keys_of(query: Query, signature: Signature, identity: str = "digest", scope: CacheScope = "row") -> list[bytes]:
    hasher = Keys(identity, signature, scope).hasher(query)
    return row_keys(hasher, query.inputs, 0, query.rows) if scope == "row" else [only_key(hasher, query.inputs)]


datatypes = st.sampled_from([each for each in Datatype if each is not Datatype.BYTES])
shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)
identities = st.sampled_from(["one", "other"])
outputs = st.sampled_from([("y",), ("z",), ("y", "z"), ("z", "y")])
values: Any = st.one_of(st.booleans(), st.sampled_from([0, 1, 0.0, 1.0, "", "0", "1", "true"]))
parameters = st.dictionaries(st.sampled_from("ab"), values, max_size=2)


@st.composite
def rows(draw: st.DrawFn) -> tuple[object, list[bytes]]:
    """One row with all that it stands among, as a value that tells any two apart, and its keys in both scopes."""
    named = draw(st.lists(st.sampled_from("uvw"), min_size=1, max_size=2, unique=True))
    inputs: list[np.ndarray[Any, Any]] = []
    specs = []
    facts: list[object] = []
    for name in named:
        datatype = draw(st.one_of(datatypes, st.just(Datatype.BYTES)))
        shape = draw(shapes)
        count = int(np.prod(shape))
        array: np.ndarray[Any, Any]
        if datatype is Datatype.BYTES:
            elements = draw(st.lists(st.sampled_from([b"", b"a", b"aa", b"\0"]), min_size=count, max_size=count))
            array = np.empty(count, dtype=object)
            array[:] = elements
            facts.append((name, datatype, shape, tuple(elements)))
        else:
            width = STORAGE[datatype].itemsize
            raw = bytes(draw(st.lists(st.sampled_from([0, 1]), min_size=count * width, max_size=count * width)))
            array = np.frombuffer(raw, dtype=STORAGE[datatype])
            facts.append((name, datatype, shape, raw))
        inputs.append(array.reshape(1, *shape))
        specs.append((name, datatype, len(shape)))
    wanted, given_parameters, identity = draw(outputs), draw(parameters), draw(identities)
    signature = signature_of(*specs)
    query = query_of(*inputs, outputs=wanted, parameters=given_parameters)
    told = sorted((name, type(value).__name__, value) for name, value in given_parameters.items())
    fact = (facts, wanted, told, identity)
    return repr(fact), [key for scope in ("row", "request") for key in keys_of(query, signature, identity, scope)]


@given(rows(), rows())
def test_different_rows_never_share_a_key(one: tuple[object, list[bytes]], other: tuple[object, list[bytes]]) -> None:
    assert (one[0] == other[0]) == (one[1] == other[1])
    assert set(one[1]).isdisjoint(other[1]) or one[0] == other[0]
    assert len(set(one[1])) == 2, "a row and a whole request of one row are not the same question"


def test_a_row_has_the_same_key_wherever_it_stands() -> None:
    signature = signature_of(("x", Datatype.FP32, 1), ("n", Datatype.INT64, 0))
    x, n = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4, dtype=np.int64)
    together = keys_of(query_of(x, n), signature)
    alone = [keys_of(query_of(x[row : row + 1], n[row : row + 1]), signature)[0] for row in range(4)]
    assert together == alone
    assert len(set(together)) == 4
    assert all(len(key) == KEY_BYTES for key in together)


def test_one_row_alone_has_the_key_that_the_quick_way_gives() -> None:
    for inputs in ((np.ones((1, 3), np.float32),), (np.ones((1, 2000)), np.array([[b"a", b"bc"]], dtype=object))):
        specs = [("x", Datatype.FP32, 1), ("s", Datatype.BYTES, 1)][: len(inputs)]
        keys = Keys("digest", signature_of(*specs), "row")
        query = query_of(*inputs)
        assert [only_key(keys.hasher(query), query.inputs)] == row_keys(keys.hasher(query), query.inputs, 0, 1)


def test_a_part_of_the_rows_has_the_keys_of_that_part() -> None:
    signature = signature_of(("x", Datatype.FP32, 1))
    query = query_of(np.arange(30, dtype=np.float32).reshape(10, 3))
    hasher = Keys("digest", signature, "row").hasher(query)
    assert row_keys(hasher, query.inputs, 3, 7) == keys_of(query, signature)[3:7]


def test_a_row_that_is_a_view_has_the_key_of_its_copy() -> None:
    signature = signature_of(("x", Datatype.FP32, 1))
    wide = np.arange(8000, dtype=np.float32).reshape(2, 4000)
    assert keys_of(query_of(wide[1:]), signature) == keys_of(query_of(wide[1:].copy()), signature)


def test_the_number_of_rows_tells_whole_requests_apart_and_not_rows() -> None:
    signature = signature_of(("x", Datatype.FP32, 1))
    one, two = query_of(np.zeros((1, 0), np.float32)), query_of(np.zeros((2, 0), np.float32))
    assert keys_of(one, signature) == keys_of(two, signature)[:1]
    assert keys_of(one, signature, scope="request") != keys_of(two, signature, scope="request")


def test_what_says_nothing_of_the_answer_is_not_in_the_key() -> None:
    signature = signature_of(("x", Datatype.FP32, 1))
    x = np.ones((1, 2), np.float32)
    plain = query_of(x)
    other = query_of(x, deadline_s=7.0, priority=1, client="somebody", caching=Caching.RENEW)
    assert keys_of(plain, signature) == keys_of(other, signature)


def test_minus_zero_and_the_kinds_of_nan_are_rows_of_their_own() -> None:
    signature = signature_of(("x", Datatype.FP32, 0))
    bits = np.array([0, 0x80000000, 0x7FC00000, 0x7FC00001], dtype=np.uint32)
    assert len(set(keys_of(query_of(bits.view(np.float32)), signature))) == 4


def test_elements_of_a_string_tensor_are_not_run_together() -> None:
    signature = signature_of(("s", Datatype.BYTES, 1))
    array = np.array([[b"ab", b"c"], [b"a", b"bc"], [b"abc", b""]], dtype=object)
    assert len(set(keys_of(query_of(array), signature))) == 3


def test_a_glance_sees_the_first_row_alone() -> None:
    def glance(*inputs: np.ndarray[Any, Any]) -> int:
        arrays: Arrays = tuple(inputs)
        return peek(arrays)

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert glance(x) == glance(x[:1])
    assert glance(x) != glance(x[1:])
    large = np.zeros((1, 100_000), np.float32)
    other = large.copy()
    other[0, ::7] = 1
    assert glance(large) != glance(other)
    words = np.array([[b"a"], [b"b"]], dtype=object)
    assert glance(words) == glance(words[:1])
    assert glance(words) != glance(words[1:])
    assert isinstance(glance(np.zeros((0, 3), np.float32)), int)
    assert glance(np.array(1, np.float32)) != glance(np.array(2, np.float32))


def test_content_counts_all_inputs() -> None:
    assert content_bytes((np.zeros(3, np.float32), np.zeros(2, np.float64))) == 28


def parameters_query(parameters: Parameters) -> Query:
    return query_of(np.ones((1, 1), np.float32), parameters=parameters)


def test_parameters_count_whatever_their_order_and_never_by_halves() -> None:
    signature = signature_of(("x", Datatype.FP32, 1))
    both = keys_of(parameters_query({"a": 1, "b": 2}), signature)
    assert keys_of(parameters_query({"b": 2, "a": 1}), signature) == both
    kinds: list[Parameters] = [{}, {"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": 2}, {"b": 1}, {"a": 1, "b": 2}]
    assert len({keys_of(parameters_query(each), signature)[0] for each in kinds}) == len(kinds)


TEXTS = signature_of(("s", Datatype.BYTES, 1), ("x", Datatype.FP32, 1))


def texts(rows: int, columns: int, text: bytes = b"t") -> Arrays:
    strings = np.empty((rows, columns), dtype=object)
    strings[:] = text
    strings[:, 0] = [text + b"%d" % row for row in range(rows)]
    return strings, np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)


@pytest.mark.parametrize(
    ("inputs", "fewest_steps"),
    [
        (texts(1, 1), 1),
        (texts(3, 2), 1),
        (texts(STEP_ROWS + 3, 1), 2),
        (texts(5, STEP_ELEMENTS // 2), 3),
        (texts(2, 2 * STEP_ELEMENTS + 1), 6),
        (texts(3, 2, b"t" * (STEP_BYTES + 1)), 12),
        (texts(2, STEP_ELEMENTS, b"t" * (STEP_BYTES // 1024)), 8),
        ((np.empty((2, 0), dtype=object), np.zeros((2, 3), np.float32)), 1),
    ],
)
def test_texts_are_digested_in_steps_to_the_same_keys(inputs: Arrays, fewest_steps: int) -> None:
    query = query_of(*inputs)
    hasher = Keys("digest", TEXTS, "row").hasher(query)
    steps = list(element_keys(hasher, inputs, query.rows))
    assert [key for step in steps for key in step] == row_keys(hasher, inputs, 0, query.rows)
    assert len(steps) >= fewest_steps
    assert max(map(len, steps)) <= STEP_ROWS
    whole = list(element_keys(hasher, inputs, None))
    assert [key for step in whole for key in step] == [only_key(hasher, inputs)]


def test_rows_that_are_many_and_long_at_once_are_digested_a_bit_at_a_time() -> None:
    long = np.zeros((2, STEP_BYTES), np.float32)
    strings = np.full((2, 1), b"t", dtype=object)
    query = query_of(strings, long)
    hasher = Keys("digest", TEXTS, "row").hasher(query)
    steps = list(element_keys(hasher, query.inputs, 2))
    assert len(steps) == 2 * (1 + 4 + 1)
    assert [key for step in steps for key in step] == row_keys(hasher, query.inputs, 0, 2)


def test_no_more_is_remembered_of_what_callers_choose_than_a_few_short_kinds() -> None:
    keys = Keys("digest", TEXTS, "row")
    query = query_of(*texts(1, 1))
    for number in range(REMEMBERED_KINDS + 10):
        keys.hasher(replace(query, parameters={"p": f"{number}", "q": "x" * (REMEMBERED_CHARACTERS - 10)}))
    assert keys.remembered == REMEMBERED_KINDS
    keys.forget()
    assert keys.remembered == 0
    long = {"p": "x" * (REMEMBERED_CHARACTERS + 1)}
    one = only_key(keys.hasher(replace(query, parameters=long)), query.inputs)
    assert keys.remembered == 0
    assert one == only_key(keys.hasher(replace(query, parameters=dict(long))), query.inputs)
    others: list[Parameters] = [{"p": long["p"] + "x"}, {"q": long["p"]}, long | {"q": 1}, long | {"q": True}]
    keyed = [only_key(keys.hasher(replace(query, parameters=other)), query.inputs) for other in others]
    assert len({one, *keyed}) == 5
