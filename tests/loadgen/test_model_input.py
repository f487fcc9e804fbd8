"""Random input has the names, shapes and datatypes that the metadata say."""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import Any

import pytest

from sluice.inference.errors import StartError
from sluice.inference.types import Datatype
from sluice.loadgen.model_input import Input, Metadata, model_path, random_bodies
from sluice.loadgen.target import target

KINDS: dict[Datatype, type] = {
    Datatype.BOOL: bool,
    Datatype.UINT8: int,
    Datatype.INT64: int,
    Datatype.FP16: float,
    Datatype.BF16: float,
    Datatype.FP32: float,
    Datatype.BYTES: str,
}


def drawn(model: Metadata, count: int = 1, rows: int = 1, length: int = 16, seed: int = 0) -> list[dict[str, Any]]:
    return [json.loads(body) for body in islice(random_bodies(model, rows, length, seed), count)]


def one(datatype: Datatype, *shape: int) -> Metadata:
    return Metadata((Input("x", datatype, shape),))


@pytest.mark.parametrize("datatype", KINDS)
def test_data_are_of_their_datatype(datatype: Datatype) -> None:
    (body,) = drawn(one(datatype, -1, 3), rows=2)

    (found,) = body["inputs"]
    assert (found["name"], found["datatype"], found["shape"]) == ("x", datatype, [2, 3])
    assert [type(each) for each in found["data"]] == [KINDS[datatype]] * 6


def test_axes_of_any_length_get_one() -> None:
    model = Metadata((Input("a", Datatype.FP32, (-1, -1, 2)), Input("b", Datatype.INT32, (-1,))))
    (body,) = drawn(model, rows=3, length=5)

    assert [each["shape"] for each in body["inputs"]] == [[3, 5, 2], [3]]
    assert [len(each["data"]) for each in body["inputs"]] == [30, 3]


def test_bodies_differ_and_follow_from_the_seed() -> None:
    model = one(Datatype.FP32, -1, 4)
    bodies = drawn(model, count=20)

    assert len({json.dumps(body) for body in bodies}) == 20
    assert bodies == drawn(model, count=20)
    assert bodies != drawn(model, count=20, seed=1)
    assert all(math.isfinite(value) for body in bodies for value in body["inputs"][0]["data"])


def test_rows_that_the_model_gives_are_kept() -> None:
    assert drawn(one(Datatype.FP32, 4, 2))[0]["inputs"][0]["shape"] == [4, 2]
    assert drawn(one(Datatype.FP32))[0]["inputs"][0]["shape"] == []
    with pytest.raises(StartError, match=r"--rows 3: input 'x' has the shape \[4, 2\]"):
        drawn(one(Datatype.FP32, 4, 2), rows=3)


def test_input_has_a_limit() -> None:
    with pytest.raises(StartError, match="more than 16,777,216 elements"):
        drawn(one(Datatype.FP32, -1, 4096, 4096), rows=2)


def test_a_model_is_below_the_path_of_the_server() -> None:
    assert model_path(target("http://example.org"), "m") == "/v2/models/m"
    assert model_path(target("http://example.org/gate/"), "a/b c") == "/gate/v2/models/a%2Fb%20c"
    with pytest.raises(StartError, match="without a query"):
        model_path(target("http://example.org/?x=1"), "m")
