"""A proof is never wrong: random graphs are searched for rows that influence each other, by running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.search import search

IN_EACH_RUN = 300
AT_NIGHT = 10_000

LEAST_PROVEN = 0.95
"""The part of the graphs without a found influence that must be proven."""

MOST_ENDED = 0.001
"""The part of the graphs at which the engine may end its process by a signal. It does so at a few."""


def _search(seeds: range, folder: Path) -> None:
    found, ended = search(seeds, folder)
    wrong = [each for each in found if each.influence is not None and each.verdict is Independence.PROVEN]
    assert not wrong
    alone = [each for each in found if each.influence is None]
    doubted = [each for each in alone if each.verdict is not Independence.PROVEN]
    assert len(doubted) <= (1 - LEAST_PROVEN) * len(alone), doubted
    assert len(ended) <= 1 + MOST_ENDED * len(seeds)
    mixing = [each for each in found if each.influence is not None and each.verdict is Independence.MIXED]
    assert len(mixing) > len(seeds) / 10  # the search finds what there is to find


def test_what_is_proven_holds_in_real_runs(tmp_path: Path) -> None:
    _search(range(IN_EACH_RUN), tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_what_is_proven_holds_in_real_runs_of_many_more(tmp_path: Path) -> None:
    _search(range(IN_EACH_RUN, IN_EACH_RUN + AT_NIGHT), tmp_path)
