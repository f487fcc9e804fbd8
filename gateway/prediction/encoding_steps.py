"""How the event loop drives what is made in steps: others have a turn after each."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypeVar

from sluice.cache.turns import Turns
from sluice.inference.types import InferenceResponse

LARGE_ELEMENTS = 32_768
"""An answer of more elements than this is made in turns with everything else; a smaller one is made at once."""

T = TypeVar("T")


def is_large(response: InferenceResponse) -> bool:
    """Whether putting an answer into words takes so long that others should have a turn meanwhile."""
    size = 0
    for tensor in response.outputs:
        size += tensor.array.size
    for part in response.parts:
        for tensor in part:
            size += tensor.array.size
    return size > LARGE_ELEMENTS


def size_bytes(response: InferenceResponse) -> int:
    """How much the tensors of an answer take; strings by their places."""
    parts = [response.outputs, *response.parts]
    return sum([tensor.array.nbytes for part in parts for tensor in part])


async def in_turns(steps: Generator[None, None, T], turns: Turns) -> T:
    """What a generator makes, with a turn for others after each of its steps: one of all that are made at the time."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: T = end.value
                return made
            await turns.next(math.inf)
    finally:
        steps.close()
