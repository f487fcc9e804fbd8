from __future__ import annotations

import numpy as np
import pytest

from cache.entry import entry_of, has_rows, join, row_of
from cache.report import Owner
from inference.types import Arrays

OWNER = Owner("m", 1)


def test_an_entry_shares_its_memory_with_nothing() -> None:
    batch = np.arange(12, dtype=np.float32).reshape(4, 3)
    entry = entry_of(row_of((batch,), 2), OWNER, 5.0)
    batch[:] = 0
    assert entry.outputs[0].tolist() == [[6, 7, 8]]
    assert entry.outputs[0].base is None


def test_nobody_can_write_to_an_entry() -> None:
    own = np.ones((1, 2))
    entry = entry_of((own,), OWNER, 5.0)
    assert entry.outputs[0] is own, "what is nobody else's need not be copied"
    with pytest.raises(ValueError, match="read-only"):
        entry.outputs[0][0, 0] = 2


def test_an_entry_counts_what_its_strings_take() -> None:
    short = entry_of((np.array([[b"a"]], dtype=object),), OWNER, 0.0)
    long = entry_of((np.array([[b"a" * 1001]], dtype=object),), OWNER, 0.0)
    assert long.size_bytes - short.size_bytes == 1000


def test_rows_are_put_together_bit_for_bit() -> None:
    bits = np.array([[0x7FC00001], [0x80000000], [1]], dtype=np.uint32)
    rows = [row_of((bits.view(np.float32), np.array([[b"x"], [b""], [b"\0"]], dtype=object)), row) for row in (2, 0, 1)]
    joined = join(rows)
    assert joined is not None
    assert joined[0].view(np.uint32).tolist() == [[1], [0x7FC00001], [0x80000000]]
    assert joined[1].tolist() == [[b"\0"], [b"x"], [b""]]


def test_one_row_is_not_copied() -> None:
    row: Arrays = (np.ones((1, 2)),)
    assert join([row]) is row


@pytest.mark.parametrize("other", [np.ones((1, 3)), np.ones((1, 2), np.float32), np.ones((1, 2, 1))])
def test_rows_that_do_not_fit_together_are_not_put_together(
    other: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    assert join([(np.ones((1, 2)),), (other,)]) is None


def test_whether_outputs_have_a_row_for_each_row() -> None:
    assert has_rows((np.ones((2, 1)), np.ones(2)), 2)
    assert not has_rows((np.ones((2, 1)), np.ones(3)), 2)
    assert not has_rows((np.ones(()),), 1)
