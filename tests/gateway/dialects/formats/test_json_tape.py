from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import simdjson

from sluice.gateway.dialects.formats.json_tape import (
    UNUSUAL,
    list_on_tape,
    names_on_tape,
    shape_on_tape,
    skeleton_of,
    skeleton_of_lists,
)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (1, 1, 4)])
def test_lists_have_the_skeleton_of_their_shape(shape: tuple[int, ...]) -> None:
    text = json.dumps(np.full(shape, -1.5e-3).tolist()).encode()
    parser = simdjson.Parser()
    assert shape_on_tape(parser.parse(text)) == shape
    assert skeleton_of(text) == skeleton_of_lists(shape, b"", len(text))


def test_a_skeleton_that_is_longer_than_its_text_is_not_made() -> None:
    exactly = len(skeleton_of_lists((3, 2), b"", 1000))
    assert len(skeleton_of_lists((3, 2), b"", exactly)) == exactly
    for longest in (exactly - 1, 0):
        with pytest.raises(ValueError, match="cannot stand"):
            skeleton_of_lists((3, 2), b"", longest)
    with pytest.raises(ValueError, match="cannot stand"):
        skeleton_of_lists((2**60, 2**60), b"", 1 << 20)


@pytest.mark.parametrize("text", ["[]", "[[], 1]"])
def test_the_shape_of_empty_lists_is_unusual(text: str) -> None:
    parser = simdjson.Parser()
    with pytest.raises(UNUSUAL):
        shape_on_tape(parser.parse(text.encode()))


def test_names_are_those_of_an_object_that_has_each_once() -> None:
    parser = simdjson.Parser()
    document: Any = parser.parse(b'{"b":1,"a":[2]}')
    assert names_on_tape(document) == ["b", "a"]
    for unusual in (document["b"], document["a"]):
        with pytest.raises(TypeError):
            names_on_tape(unusual)
    with pytest.raises(ValueError, match="twice"):
        names_on_tape(simdjson.Parser().parse(b'{"a":1,"a":2}'))


def test_a_list_is_a_list() -> None:
    parser = simdjson.Parser()
    document: Any = parser.parse(b'[[1],{"a":2}]')
    assert len(list_on_tape(document[0])) == 1
    with pytest.raises(ValueError, match="not a list"):
        list_on_tape(document[1])
