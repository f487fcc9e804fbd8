"""Encodes large answers in steps, so that other tasks have a turn after each of them."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TypeVar

from sluice.cache.turns import Turns
from sluice.inference.types import InferenceResponse

LARGE_ELEMENTS = 32_768
"""An answer of more elements than this is encoded in steps; a smaller one is encoded at once."""

T = TypeVar("T")


def is_large(response: InferenceResponse) -> bool:
    """Whether encoding an answer takes so long that other tasks should have a turn meanwhile."""
    size = 0
    for tensor in response.outputs:
        size += tensor.array.size
    for part in response.parts:
        for tensor in part:
            size += tensor.array.size
    return size > LARGE_ELEMENTS


def size_bytes(response: InferenceResponse) -> int:
    """The memory that the tensors of an answer take; for strings, only that of their references."""
    parts = [response.outputs, *response.parts]
    return sum([tensor.array.nbytes for part in parts for tensor in part])


async def in_turns(steps: Generator[None, None, T], turns: Turns) -> T:
    """The result of a generator. After each step it waits for its turn, which it takes with all other generators."""
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
