"""Many rows put together, and rows taken out of many: in steps, within bounds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np
import pytest

from sluice.cache.entry import row_of
from sluice.cache.joining import Limits, joined, taken_out
from sluice.cache.turns import STEP_BYTES, STEP_ROWS, Turns
from sluice.inference.errors import DeadlineExceeded, RequestTooLarge
from sluice.inference.types import Array, Arrays


class CountedTurns(Turns):
    """Turns that come at once, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    async def next(self, deadline_s: float) -> None:
        self.taken += 1
        await super().next(deadline_s)


def limits(max_bytes: int = 1 << 30, *, deadline_s: float = math.inf, turns: Turns | None = None) -> Limits:
    return Limits(CountedTurns() if turns is None else turns, deadline_s, max_bytes)


async def join(rows: Sequence[Arrays]) -> Arrays | None:
    keys = [b"%d" % place for place in range(len(rows))]
    return await joined(dict(zip(keys, rows, strict=True)), keys, limits())


async def test_rows_are_put_together_bit_for_bit() -> None:
    bits = np.array([[0x7FC00001], [0x80000000], [1]], dtype=np.uint32)
    texts = np.array([[b"x"], [b""], [b"\0"]], dtype=object)
    whole = await join([row_of((bits.view(np.float32), texts), row) for row in (2, 0, 1)])
    assert whole is not None
    assert whole[0].view(np.uint32).tolist() == [[1], [0x7FC00001], [0x80000000]]
    assert whole[1].tolist() == [[b"\0"], [b"x"], [b""]]


async def test_one_row_is_not_copied() -> None:
    row: Arrays = (np.ones((1, 2)),)
    assert await join([row]) is row


@pytest.mark.parametrize("other", [np.ones((1, 3)), np.ones((1, 2), np.float32), np.ones((1, 2, 1))])
async def test_rows_that_do_not_fit_together_are_not_put_together(other: Array) -> None:
    assert await join([(np.ones((1, 2)),), (other,)]) is None


async def test_rows_without_elements_are_put_together() -> None:
    whole = await join([(np.ones((1, 0)),), (np.ones((1, 0)),)])
    assert whole is not None
    assert whole[0].shape == (2, 0)


@pytest.mark.parametrize("equal", [False, True])
async def test_others_have_their_turn_between_steps(equal: bool) -> None:
    rows = 5 * STEP_ROWS
    found = {b"%d" % row: (np.full((1, 1), row),) for row in range(1 if equal else rows)}
    keys = [b"0"] * rows if equal else list(found)
    turns = CountedTurns()
    whole = await joined(found, keys, limits(turns=turns))
    assert whole is not None
    assert turns.taken == 4
    assert whole[0][:, 0].tolist() == ([0] * rows if equal else list(range(rows)))


async def test_large_rows_make_short_steps() -> None:
    found = {b"%d" % row: (np.full((1, STEP_BYTES // 2), row, np.uint8),) for row in range(8)}
    turns = CountedTurns()
    whole = await joined(found, list(found), limits(turns=turns))
    assert whole is not None
    assert turns.taken == 3
    taken = await taken_out(whole, [7, 0, 3, 4], limits(turns=turns))
    assert taken[0][:, -1].tolist() == [7, 0, 3, 4]
    assert turns.taken == 4


async def test_an_answer_has_no_more_bytes_than_it_may() -> None:
    """Equal rows are counted each time: nothing of that size is made."""
    found: dict[bytes, Arrays] = {b"a": (np.zeros((1, 1000), np.uint8),)}
    with pytest.raises(RequestTooLarge, match=r"at most 9999 \(server.max_answer_bytes\)"):
        await joined(found, [b"a"] * 10, limits(9999))
    assert await joined(found, [b"a"] * 9, limits(9999))
    with pytest.raises(RequestTooLarge):
        await joined(found, [b"a"], limits(999))


async def test_texts_count_by_their_length() -> None:
    found: dict[bytes, Arrays] = {b"a": (np.array([[b"t" * 1000]], dtype=object),)}
    with pytest.raises(RequestTooLarge):
        await joined(found, [b"a"] * 10, limits(9999))
    assert await joined(found, [b"a"] * 9, limits(9999))
    with pytest.raises(RequestTooLarge):
        await joined(found, [b"a"], limits(999))


async def test_it_ends_at_its_deadline() -> None:
    found: dict[bytes, Arrays] = {b"a": (np.zeros((1, 1)),)}
    with pytest.raises(DeadlineExceeded):
        await joined(found, [b"a"] * 2 * STEP_ROWS, limits(deadline_s=0.0))
    with pytest.raises(DeadlineExceeded):
        await taken_out(found[b"a"], [0] * 2 * STEP_ROWS, limits(deadline_s=0.0))


async def test_a_caller_that_goes_stops_it() -> None:
    found: dict[bytes, Arrays] = {b"a": (np.zeros((1, 1)),)}
    turns = CountedTurns()
    joining = asyncio.ensure_future(joined(found, [b"a"] * 1000 * STEP_ROWS, limits(turns=turns)))
    await turns.next(math.inf)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert turns.taken < 10


async def test_rows_that_do_not_fit_together_are_not_too_large_for_the_first_of_them() -> None:
    found: dict[bytes, Arrays] = {b"a": (np.zeros((1, 5000), np.uint8),), b"b": (np.zeros((1, 1), np.uint8),)}
    assert await joined(found, [b"a", b"b"], limits(9999)) is None
