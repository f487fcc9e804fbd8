from __future__ import annotations

import numpy as np
import pytest

from sluice.cache.entry import entry_of, has_rows, row_of
from sluice.cache.report import Owner

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


def test_whether_outputs_have_a_row_for_each_row() -> None:
    assert has_rows((np.ones((2, 1)), np.ones(2)), 2)
    assert not has_rows((np.ones((2, 1)), np.ones(3)), 2)
    assert not has_rows((np.ones(()),), 1)
