from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.dialects.v2 import V2
from gateway.http.messages import HttpResponse
from gateway.http.request_ids import REQUEST_ID
from gateway.repeats import LONGEST_BYTES, REMEMBERED, Repeats
from inference.types import CacheUse, InferenceRequest, InferenceResponse

REQUEST = InferenceRequest(())


class Another(V2):
    """Another dialect."""


ANSWER = HttpResponse(200, b"answer")
DIALECT = V2()
BODY = b'{"inputs": []}'


class Standing(msgspec.Struct):
    """An entry that stands until the test says otherwise."""

    stands: bool = True

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
