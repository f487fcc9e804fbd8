"""A proof is never wrong: random graphs are searched for rows that influence each other, by running them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from inference.backends.onnx.proof import prove
from inference.findings import Independence
from tests.inference.proof.random_graphs import influence, random_graph

IN_EACH_RUN = 300
AT_NIGHT = 10_000

LEAST_PROVEN = 0.95
"""Of the graphs in which the search finds nothing."""


def _search(seeds: range, folder: Path) -> None:
    file = folder / "model.onnx"
    found: Counter[tuple[Independence, bool]] = Counter()
    doubted = []
    for seed in seeds:
        graph = random_graph(seed)
        if graph is None:
            continue
        file.write_bytes(graph.model)
        proof = prove(file)
        influenced = influence(graph, seed)
        assert not (influenced and proof.verdict is Independence.PROVEN), (
            f"seed {seed}, {' '.join(graph.operators)}: proven, and yet {influenced}"
        )
        found[proof.verdict, influenced is not None] += 1
        if influenced is None and proof.verdict is not Independence.PROVEN:
            doubted.append(f"seed {seed}, {' '.join(graph.operators)}: {proof.because}")
    proven = found[Independence.PROVEN, False]
    assert proven >= LEAST_PROVEN * (proven + len(doubted)), "\n".join(doubted)
    assert found[Independence.MIXED, True] > len(seeds) / 10  # the search finds what there is to find


def test_what_is_proven_holds_in_real_runs(tmp_path: Path) -> None:
    _search(range(IN_EACH_RUN), tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_what_is_proven_holds_in_real_runs_of_many_more(tmp_path: Path) -> None:
    _search(range(IN_EACH_RUN, IN_EACH_RUN + AT_NIGHT), tmp_path)
