"""`make bench`: run every measurement, print Markdown tables, and say which bounds were missed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks import scenarios
from benchmarks.alone import batcher
from benchmarks.binary import binary
from benchmarks.caching import frozen, hit, identical, redis, zipf_stream
from benchmarks.costs import costs
from benchmarks.dialects import dialects, tfs_decode
from benchmarks.embeddings import embeddings
from benchmarks.grpc_calls import grpc_unary
from benchmarks.hashing import hashing
from benchmarks.objective import objective
from benchmarks.overload import overload
from benchmarks.proving import proving
from benchmarks.scenarios import Report
from tests import models as built


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", default=5, show_default=True, help="Interleaved repetitions; medians are reported.")
@click.option("--seconds", default=3, show_default=True, help="Length of one run of the load generator.")
@click.option("--only", default="", help="Of *costs*: rows with this in their name.")
def main(names: Sequence[str], rounds: int, seconds: int, only: str) -> None:
    """Run the benchmarks NAMES, all by default.

    They are tiny, observing, mlp, decode, binary, image, dialects, tfs-decode, rest, grpc, embeddings, batcher,
    objective, overload, proving and costs, and of the cache hit, redis, zipf, identical, frozen and hashing.
    """
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        for name in ("tiny", "mlp", "image"):
            models.joinpath(f"{name}.onnx").write_bytes(getattr(built, name)())
        runs: dict[str, Callable[[], Report]] = {
            "tiny": lambda: scenarios.tiny(models, rounds, seconds),
            "observing": lambda: scenarios.observing(models, rounds, seconds),
            "mlp": lambda: scenarios.mlp(models, rounds, seconds),
            "decode": lambda: scenarios.decode(rounds * 5),
            "image": lambda: scenarios.image(models, rounds, seconds),
            "binary": lambda: binary(models, rounds, seconds),
            "dialects": lambda: dialects(models, rounds, seconds),
            "tfs-decode": lambda: tfs_decode(rounds * 5),
            "rest": lambda: scenarios.rest(models, rounds),
            "grpc": lambda: grpc_unary(models, rounds, seconds),
            "embeddings": lambda: embeddings(models, rounds, seconds),
            "batcher": lambda: batcher(models, rounds),
            "objective": lambda: objective(models, rounds, seconds),
            "overload": lambda: overload(models, rounds, seconds),
            "proving": lambda: proving(models / "proving", rounds),
            "costs": lambda: costs(rounds, only),
            "hit": lambda: hit(models, rounds, seconds),
            "redis": lambda: redis(models, rounds, seconds),
            "zipf": lambda: zipf_stream(models, rounds, seconds),
            "identical": lambda: identical(models, rounds),
            "hashing": lambda: hashing(rounds),
            "frozen": lambda: frozen(models, rounds, seconds),
        }
        missed = 0
        for name in names or runs:
            report = runs[name]()
            click.echo(markdown(report))
            missed += sum(not check.holds for check in report.checks)
    sys.exit(1 if missed else 0)


def markdown(report: Report) -> str:
    lines = [f"### {report.title}", "", _row(report.columns), _row(["---"] * len(report.columns))]
    lines += [_row([_text(cell) for cell in row]) for row in report.rows]
    lines += ["", _row(["claim", "measured", "bound", ""]), _row(["---"] * 4)]
    lines += [
        _row([check.what, _text(check.measured), check.bound, "holds" if check.holds else "**missed**"])
        for check in report.checks
    ]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


if __name__ == "__main__":
    main()
