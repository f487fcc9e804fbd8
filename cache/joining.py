"""Answers put together from rows, and queries taken apart: copies of many rows, made in steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sluice.cache.turns import STEP_BYTES, Turns, steps
from sluice.inference.errors import RequestTooLarge
from sluice.inference.types import Array, Arrays


class Limits:
    """The bounds of one answer, in bytes and in time, checked in each step. `turns` are taken between two steps."""

    __slots__ = ("deadline_s", "max_bytes", "turns")

    def __init__(self, turns: Turns, deadline_s: float, max_bytes: int) -> None:
        self.turns = turns
        self.deadline_s = deadline_s
        self.max_bytes = max_bytes

    async def turn(self) -> None:
        """Let others have their turn. Raises `DeadlineExceeded`."""
        await self.turns.next(self.deadline_s)

    def check(self, size_bytes: int) -> None:
        """Raise `RequestTooLarge` for an answer of more bytes."""
        if size_bytes > self.max_bytes:
            raise RequestTooLarge(
                f"the answer has {size_bytes} bytes and more; it may have at most {self.max_bytes} "
                "(server.max_answer_bytes): send fewer rows, or ask for fewer outputs"
            )


async def joined(found: Mapping[bytes, Arrays], keys: Sequence[bytes], limits: Limits) -> Arrays | None:
    """The outputs of these keys' rows, one below the other; `None` if they do not fit together.

    Copies each once, save for a single row. A row that stands there more than once counts, and is copied, each time.
    Raises `RequestTooLarge` before anything of that size is made, and `DeadlineExceeded`.
    """
    first = found[keys[0]]
    if len(keys) == 1:
        limits.check(_bytes_of(first))
        return first
    size_bytes = len(keys) * sum([array.nbytes for array in first])
    if size_bytes > limits.max_bytes and not _are_alike(found.values()):
        return None
    limits.check(size_bytes)
    whole = tuple([np.empty((len(keys), *array.shape[1:]), array.dtype) for array in first])
    texts = [place for place, array in enumerate(first) if array.dtype.hasobject]
    for start, stop in steps(len(keys), size_bytes, len(first)):
        if start:
            await limits.turn()
        rows = [found[key] for key in keys[start:stop]]
        for array, pattern, parts in zip(whole, first, zip(*rows, strict=True), strict=True):
            shape, dtype = pattern.shape, pattern.dtype
            if any([part.shape != shape or part.dtype != dtype for part in parts]):
                return None
            np.concatenate(parts, out=array[start:stop])
        for place in texts:
            size_bytes += _text_bytes(whole[place][start:stop])
            limits.check(size_bytes)
    return whole


async def taken_out(inputs: Arrays, places: Sequence[int], limits: Limits) -> Arrays:
    """A copy of these rows of the inputs. Raises `DeadlineExceeded`."""
    size_bytes = sum([array.nbytes for array in inputs]) * len(places) // max(1, len(inputs[0]))
    taken = tuple([np.empty((len(places), *array.shape[1:]), array.dtype) for array in inputs])
    for start, stop in steps(len(places), size_bytes, len(inputs)):
        if start:
            await limits.turn()
        for array, own in zip(inputs, taken, strict=True):
            own[start:stop] = array[places[start:stop]]
    return taken


async def contiguous(arrays: Arrays, turns: Turns, deadline_s: float) -> Arrays:
    """The arrays, C-contiguous: those that are not are copied. Raises `DeadlineExceeded`."""
    return tuple([array if array.flags.c_contiguous else await _copied(array, turns, deadline_s) for array in arrays])


async def _copied(array: Array, turns: Turns, deadline_s: float) -> Array:
    if array.nbytes <= STEP_BYTES:
        return np.ascontiguousarray(array)
    whole: Array = np.empty(array.shape, array.dtype)
    for start, stop in steps(len(array), array.nbytes):
        if start:
            await turns.next(deadline_s)
        whole[start:stop] = array[start:stop]
    return whole


def _are_alike(rows: Iterable[Arrays]) -> bool:
    kinds = {tuple([(array.shape, array.dtype) for array in row]) for row in rows}
    return len(kinds) == 1


def _bytes_of(arrays: Arrays) -> int:
    return sum([array.nbytes + (_text_bytes(array) if array.dtype.hasobject else 0) for array in arrays])


def _text_bytes(array: Array) -> int:
    return sum(map(len, array.ravel().tolist()))
