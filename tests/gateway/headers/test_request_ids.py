from __future__ import annotations

import pytest

from sluice.gateway.headers.request_ids import RequestIds


def test_the_callers_id_is_kept() -> None:
    assert RequestIds().of([(b"host", b"x"), (b"x-request-id", b"call-7")]) == b"call-7"


@pytest.mark.parametrize("hostile", [b"", b"a b", b"x" * 129, b"caf\xc3\xa9", b"a\r\nset-cookie: b"])
def test_an_id_that_could_do_harm_is_replaced(hostile: bytes) -> None:
    made = RequestIds().of([(b"x-request-id", hostile)])
    assert made
    assert made != hostile


def test_made_ids_are_unique_within_and_across_processes() -> None:
    one, other = RequestIds(), RequestIds()
    made = [ids.of([]) for ids in (one, other) for _ in range(100)]
    assert len(set(made)) == 200
