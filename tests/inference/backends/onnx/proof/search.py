"""Searches random graphs in a process of its own, since the engine ends the process on some of them.

    python -m tests.inference.backends.onnx.proof.search FIRST END FILE

appends a line to FILE before each graph and after it: `{"seed": 7}`, then what was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sluice.inference.backends.onnx.proof import prove
from sluice.inference.findings import Independence
from tests.inference.backends.onnx.proof.random_graphs import influence, random_graph


class Searched(msgspec.Struct, frozen=True):
    """What was proven about one graph, and what the search found, if anything."""

    seed: int
    operators: str
    verdict: Independence
    because: str
    influence: str | None


def search(seeds: range, folder: Path) -> tuple[list[Searched], list[int]]:
    """The graphs that these seeds gave, and the seeds at which the engine ended its process."""
    report = folder / "found.jsonl"
    report.touch()
    ended: list[int] = []
    first = seeds.start
    while first < seeds.stop:
        command = [
            sys.executable,
            "-m",
            "tests.inference.backends.onnx.proof.search",
            str(first),
            str(seeds.stop),
            str(report),
        ]
        if subprocess.run(command, check=False).returncode == 0:
            break
        begun = [line["seed"] for line in map(json.loads, report.read_text().splitlines())]
        if not begun or begun[-1] < first:
            raise RuntimeError("the search did not begin")
        ended.append(begun[-1])
        first = begun[-1] + 1
    lines = [line for line in report.read_text().splitlines() if "verdict" in line]
    return [msgspec.json.decode(line, type=Searched) for line in lines], ended


def _found(seeds: range, file: Path) -> Iterator[Searched | dict[str, int]]:
    for seed in seeds:
        yield {"seed": seed}
        graph = random_graph(seed)
        if graph is not None:
            file.write_bytes(graph.model)
            proof = prove(file)
            yield Searched(seed, " ".join(graph.operators), proof.verdict, proof.because, influence(graph, seed))


def _main(first: int, end: int, report: Path) -> None:
    with report.open("ab", buffering=0) as lines:
        for each in _found(range(first, end), report.with_name("model.onnx")):
            lines.write(msgspec.json.encode(each) + b"\n")


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
