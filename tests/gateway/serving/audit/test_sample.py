"""Which rows of a batch are kept, and which of them is audited."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np

from sluice.gateway.serving.audit.sample import Choice, rows_of, sample_of
from sluice.inference.types import Array, Arrays, BatchResult
from tests.batching.fakes import column

Y = ("y",)


def result(*outputs: Array) -> BatchResult:
    return BatchResult(outputs, 0.25, 0.5)


def test_all_of_a_small_batch_is_kept_as_copies() -> None:
    parts: list[Arrays] = [(column(1, 2), np.array([7, 8])), (column(3), np.array([9]))]
    outputs = column(10, 20, 30)
    kept = sample_of(parts, Y, result(outputs), Choice(Random(0)))
    assert kept is not None
    assert rows_of(parts) == 3
    assert (kept.rows, kept.whole, kept.batch_s, kept.outputs) == (3, True, 0.25, Y)
    assert [array.tolist() for array in kept.inputs] == [[[1], [2], [3]], [7, 8, 9]]
    assert kept.answers[0].tolist() == outputs.tolist()
    for own, given in ((kept.inputs[0], parts[0][0]), (kept.inputs[1], parts[1][1]), (kept.answers[0], outputs)):
        assert not np.shares_memory(own, given)
    assert kept.size_bytes == 3 * (4 + 8 + 4)


def test_of_a_large_batch_as_much_is_kept_as_there_is_room_for() -> None:
    parts: list[Arrays] = [(np.arange(start, start + 100, dtype=np.float32),) for start in range(0, 1000, 100)]
    choice = Choice(Random(1))
    starts = set()
    for _ in range(200):
        kept = sample_of(parts, Y, result(np.arange(1000, dtype=np.float32) + 0.5), choice, kept_bytes=8 * 30)
        assert kept is not None
        assert (kept.rows, kept.whole) == (30, False)
        assert kept.inputs[0].tolist() == list(range(int(kept.inputs[0][0]), int(kept.inputs[0][0]) + 30))
        assert (kept.answers[0] - kept.inputs[0] == 0.5).all()
        assert 0 <= kept.place < 30
        starts.add(kept.inputs[0][0])
    assert len(starts) > 100


def test_a_row_that_is_too_large_is_not_kept() -> None:
    parts: list[Arrays] = [(np.zeros((2, 100), np.float32),)]
    assert sample_of(parts, Y, result(np.zeros((2, 1), np.float32)), Choice(Random(0)), kept_bytes=400) is None
    texts = np.array([b"a", b"b" * 1000, b"c", b"d"], dtype=object)
    kept = [sample_of([(texts,)], Y, result(texts), Choice(Random(seed)), kept_bytes=1500) for seed in range(50)]
    assert None in kept
    assert {each.size_bytes for each in kept if each is not None} == {2 * 2 * (8 + 1)}


def test_every_row_has_its_turn() -> None:
    choice = Choice(Random(2))
    x = column(1, 2, 3, 4)
    turns = Counter(choice.place(Y, (x,)) for _ in range(400))
    assert set(turns) == {0, 1, 2, 3}
    assert min(turns.values()) > 50


def test_a_row_unlike_all_before_is_soon_looked_at() -> None:
    for unlike in (
        np.array([[1, 2]] * 63 + [[1, 900]], np.float32),
        np.array([[1, 2]] * 63 + [[-5, 2]]),
        np.array([[b"ab"]] * 63 + [[b"a" * 500]], dtype=object),
        np.array([[1]] * 63 + [[np.inf]], np.float16),
    ):
        choice = Choice(Random(3))
        for _ in range(50):
            choice.place(Y, (unlike[:63],))
        turns = [choice.place(Y, (unlike,)) for _ in range(8)]
        assert 63 in turns
    assert Choice(Random(0)).place(Y, (np.zeros((2, 0), np.float32),)) in (0, 1)


def test_contents_tell_rows_apart() -> None:
    texts = np.array([[b"ab", b"c"], [b"a", b"bc"], [b"ab", b"c"]], dtype=object)
    kept = [
        sample_of([(texts[place : place + 1],)], Y, result(np.zeros((1, 1))), Choice(Random(0))) for place in range(3)
    ]
    contents = [each.content for each in kept if each is not None]
    assert contents[0] == contents[2] != contents[1]
