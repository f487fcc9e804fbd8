from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.headers.request_ids import REQUEST_ID
from sluice.gateway.messages import HttpResponse
from sluice.gateway.serving.repeated_calls import LONGEST_BYTES, REMEMBERED, REMEMBERED_BYTES, Repeats
from sluice.inference.types import CacheUse, Datatype, InferenceRequest, InferenceResponse, Tensor

REQUEST = InferenceRequest(())


class Another(V2):
    """Another dialect."""


ANSWER = HttpResponse(200, b"answer")
DIALECT = V2()
BODY = b'{"inputs": []}'


class Standing(msgspec.Struct):
    """An entry that the cache has until the test says otherwise."""

    stands: bool = True
    size_bytes: int = 100

    def again(self) -> bool:
        return self.stands


def response(recall: Standing | None) -> InferenceResponse:
    return InferenceResponse("m", 1, (), cached=CacheUse(1, 1), recall=recall)


def test_the_same_bytes_get_the_same_answer_while_the_entry_stands() -> None:
    repeats, entry = Repeats(), Standing()
    kept = response(entry)
    repeats.keep(DIALECT, BODY, (), REQUEST, kept, ANSWER)
    found = repeats.find(DIALECT, BODY, ())
    assert found is not None
    assert (found.response, found.answer) == (kept, ANSWER)
    assert repeats.find(DIALECT, BODY + b" ", ()) is None
    assert repeats.find(Another(), BODY, ()) is None, "another dialect reads other things into the same bytes"
    entry.stands = False
    assert repeats.find(DIALECT, BODY, ()) is None
    entry.stands = True
    assert repeats.find(DIALECT, BODY, ()) is None, "what was given up does not come back by itself"


@pytest.mark.parametrize("name", [b"cache-control", b"x-request-timeout-ms", b"inference-header-content-length"])
def test_a_header_that_matters_makes_it_another_call(name: bytes) -> None:
    repeats = Repeats()
    repeats.keep(DIALECT, BODY, (), REQUEST, response(Standing()), ANSWER)
    assert repeats.find(DIALECT, BODY, ((name, b"1"),)) is None
    assert repeats.find(DIALECT, BODY, ((REQUEST_ID, b"1"), (name, b"1"))) is None
    assert repeats.find(DIALECT, BODY, ((REQUEST_ID, b"1"),)) is not None
    repeats = Repeats()
    repeats.keep(DIALECT, BODY, ((name, b"1"),), REQUEST, response(Standing()), ANSWER)
    assert repeats.find(DIALECT, BODY, ()) is None, "what a header brought about is for nobody who did not send it"


@pytest.mark.parametrize(
    ("body", "request_", "recall", "answer"),
    [
        (BODY, REQUEST, None, ANSWER),
        (BODY, InferenceRequest((), timeout_s=5.0), Standing(), ANSWER),
        (bytearray(BODY), REQUEST, Standing(), ANSWER),
        (b"x" * (LONGEST_BYTES + 1), REQUEST, Standing(), ANSWER),
        (BODY, REQUEST, Standing(), HttpResponse(200, b"x" * (LONGEST_BYTES + 1))),
    ],
)
def test_what_is_not_remembered(body: Any, request_: InferenceRequest, recall: Any, answer: HttpResponse) -> None:
    repeats = Repeats()
    repeats.keep(DIALECT, body, (), request_, response(recall), answer)
    assert repeats.find(DIALECT, body, ()) is None


def test_so_many_calls_are_remembered_and_the_oldest_go_first() -> None:
    repeats = Repeats()
    for number in range(REMEMBERED + 1):
        repeats.keep(DIALECT, b"%d" % number, (), REQUEST, response(Standing()), ANSWER)
    assert repeats.find(DIALECT, b"0", ()) is None
    assert repeats.find(DIALECT, b"1", ()) is not None
    assert repeats.find(DIALECT, b"%d" % REMEMBERED, ()) is not None


def test_the_entries_that_they_stand_by_count() -> None:
    """An answer with the best class of a million is short, and the entry from which it was made is not."""
    repeats = Repeats()
    for number in range(1000):
        recall = Standing(size_bytes=100_000)
        repeats.keep(DIALECT, b"%d" % number, (), REQUEST, response(recall), ANSWER)
        assert repeats.size_bytes <= REMEMBERED_BYTES
    assert 0 < len(repeats) <= REMEMBERED_BYTES // 100_000
    assert repeats.find(DIALECT, b"999", ()) is not None
    repeats.keep(DIALECT, BODY, (), REQUEST, response(Standing(size_bytes=REMEMBERED_BYTES)), ANSWER)
    assert repeats.find(DIALECT, BODY, ()) is None


def test_what_is_counted_is_what_is_held() -> None:
    repeats, entry = Repeats(), Standing()
    for _ in range(3):
        repeats.keep(DIALECT, BODY, (), REQUEST, response(entry), ANSWER)
    once = repeats.size_bytes
    repeats.keep(DIALECT, b"another", (), REQUEST, response(entry), ANSWER)
    assert repeats.size_bytes > once
    entry.stands = False
    for body in (BODY, b"another"):
        assert repeats.find(DIALECT, body, ()) is None
    assert (len(repeats), repeats.size_bytes) == (0, 0)
    entry.stands = True
    repeats.keep(DIALECT, BODY, (), REQUEST, response(entry), ANSWER)
    repeats.forget()
    assert (len(repeats), repeats.size_bytes) == (0, 0)
    assert repeats.find(DIALECT, BODY, ()) is None


def test_no_tensors_are_held() -> None:
    repeats = Repeats()
    outputs = (Tensor("y", Datatype.FP32, np.zeros((1, 10), np.float32)),)
    answered = InferenceResponse("m", 1, outputs, cached=CacheUse(1, 1), recall=Standing())
    repeats.keep(DIALECT, BODY, (), REQUEST, answered, ANSWER)
    found = repeats.find(DIALECT, BODY, ())
    assert found is not None
    assert found.response.outputs == ()
