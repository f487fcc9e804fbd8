from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sluice.gateway.dialects.base import Callee
from sluice.gateway.reading.reader_bounds import (
    CHARACTER_BYTES,
    LEAST_BYTES,
    MEMORY_TIMES,
    PIXEL_BYTES,
    TOKENIZER_TIMES,
    ReaderFault,
    given_up,
    memory_bound_bytes,
    reader_lost,
)
from sluice.gateway.telemetry.labels import ReaderEnd
from sluice.inference import errors
from sluice.inference.errors import SluiceError

MIB = 1 << 20


def callee(*, pixels: int | None = None, characters: int | None = None, tokenizer_bytes: int = 0) -> Callee:
    image = None if pixels is None else SimpleNamespace(max_pixels=pixels)
    text = None if characters is None else SimpleNamespace(max_characters=characters)
    config = SimpleNamespace(input={"x": SimpleNamespace(image=image)}, text=text)
    tokenizer = SimpleNamespace(disk=SimpleNamespace(size_bytes=tokenizer_bytes))
    return cast(Callee, SimpleNamespace(config=cast(Any, config), tokenizer=tokenizer))


def test_a_body_may_take_a_multiple_of_its_length_and_a_short_one_more() -> None:
    assert memory_bound_bytes(callee(), 10 * MIB) == MEMORY_TIMES * 10 * MIB
    assert memory_bound_bytes(callee(), 1) == LEAST_BYTES


def test_pictures_and_texts_may_take_what_their_libraries_need() -> None:
    assert memory_bound_bytes(callee(pixels=1000), 1) == LEAST_BYTES + PIXEL_BYTES * 1000
    texts = callee(characters=500, tokenizer_bytes=MIB)
    assert memory_bound_bytes(texts, 2000) == LEAST_BYTES + CHARACTER_BYTES * 500 + TOKENIZER_TIMES * MIB


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        (ReaderEnd.DEADLINE, errors.DeadlineExceeded),
        (ReaderEnd.MEMORY, errors.RequestTooLarge),
        (ReaderEnd.TIME, errors.RequestTooLarge),
        (ReaderEnd.DIED, errors.Unavailable),
    ],
)
def test_a_call_whose_reader_was_killed_is_refused_with_the_reason(why: ReaderEnd, kind: type[SluiceError]) -> None:
    assert type(reader_lost(why)) is kind


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ReaderFault.KILLED, errors.Unavailable),
        (ReaderFault.STALLED, errors.Unavailable),
        (ReaderFault.CRASHED, errors.InvalidRequest),
    ],
)
def test_a_body_that_was_tried_in_vain_is_refused(fault: ReaderFault, kind: type[SluiceError]) -> None:
    assert type(given_up(fault, 2)) is kind
