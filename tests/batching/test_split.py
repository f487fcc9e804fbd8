from __future__ import annotations

import math
from contextlib import closing
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.batching.job import Job, JobResult, size_bytes
from sluice.batching.split import join, split
from tests.batching.fakes import column, numbers
from tests.batching.virtual_time import VirtualTimeLoop


@given(st.integers(2, 200), st.integers(1, 64), st.randoms())
def test_pieces_hold_every_row_once_and_come_together_in_order(rows: int, max_rows: int, order: Random) -> None:
    inputs = (column(*range(rows)), np.array([b"%d" % row for row in range(rows)], dtype=object))
    with closing(VirtualTimeLoop()) as loop:
        future = loop.create_future()
    whole = Job(rows, size_bytes(inputs), "key", inputs, ("x", "text"), future, 9.0, 7.0, 8.0, 3, "client", 5.0)
    pieces = split(whole, max_rows)
    assert len(pieces) == math.ceil(rows / max_rows)
    assert all(1 <= piece.rows <= max_rows and piece.future is future for piece in pieces)
    assert sum(piece.rows for piece in pieces) == rows
    for piece in pieces:
        assert (piece.key, piece.outputs, piece.priority, piece.client) == ("key", ("x", "text"), 3, "client")
        assert (piece.deadline_s, piece.promised_s, piece.due_s) == (9.0, 7.0, 8.0)
    assert sum(piece.size_bytes for piece in pieces) == whole.size_bytes
    assert sum(piece.work_s for piece in pieces) == pytest.approx(5.0)
    assert all(np.shares_memory(piece.inputs[0], inputs[0]) for piece in pieces)
    order.shuffle(pieces)
    for piece in pieces:
        assert not future.done()
        piece.answer(JobResult(piece.inputs, 1.0, 0.75, 0.5, piece.rows))
    numeric, text = future.result().outputs
    assert numbers(numeric) == list(range(rows))
    assert text.tolist() == inputs[1].tolist()


def test_timings_of_a_whole() -> None:
    parts = [JobResult((column(1),), 3.0, 0.75, 0.25, 2), JobResult((column(2),), 1.0, 1.5, 0.5, 8)]
    whole = join(parts)
    assert (whole.queue_s, whole.batch_s, whole.compute_s) == (3.0, 1.5, 0.75)
    assert (whole.batch_rows, whole.late) == (8, False)


def test_a_whole_is_late_if_a_part_is() -> None:
    parts = [JobResult((column(1),), 0.0, 0.0, 0.0, 1, late) for late in (False, True, False)]
    assert join(parts).late


def test_parts_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="dimension"):
        join([JobResult((column(1),), 0, 0, 0, 1), JobResult((column(1, 2).reshape(1, 2),), 0, 0, 0, 1)])
