"""What the batcher adds for a caller that is alone, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.one_caller import BY_BATCHER, BY_PROMISING, IN_A_LOOP, ON_REQUEST, Way, one_caller
from benchmarks.scenarios import Check, Report, at_most

BLOCKS_PER_ROUND = 4
BOUND_MS = 0.3


def batcher(models: Path, rounds: int) -> Report:
    """One row at a time through Batcher and Workers, without HTTP, against the session alone."""
    rows: list[list[str | float]] = []
    checks: list[Check] = []
    for model in ("mlp", "tiny"):
        ways = {way.name: way for way in one_caller(models / f"{model}.onnx", 1, 1, rounds * BLOCKS_PER_ROUND)}
        rows += [
            [model, name, way.wall.p50_ms, way.wall.p99_ms, way.engine.p50_ms, way.engine.p99_ms, way.added.p50_ms]
            for name, way in ways.items()
        ]
        checks += _checks(model, ways)
    return Report(
        "batcher: one caller, one row, 1 intra-op thread, in one process with the batcher",
        ["model", "way", "p50 ms", "p99 ms", "engine p50 ms", "engine p99 ms", "p50 of call minus engine, ms"],
        rows,
        checks,
    )


def _checks(model: str, ways: Mapping[str, Way]) -> list[Check]:
    """The calls against the engine's own time in them, and against the session alone, caches as cold and warm."""
    return [
        at_most(f"{model}: {name}, p50 minus {what}, ms", measured, BOUND_MS)
        for name in (BY_BATCHER, BY_PROMISING)
        for what, measured in {
            "the engine's own time in each call": ways[name].added.p50_ms,
            "p50 of runs on request": ways[name].wall.p50_ms - ways[ON_REQUEST].engine.p50_ms,
            "p50 of runs in a loop": ways[name].wall.p50_ms - ways[IN_A_LOOP].engine.p50_ms,
        }.items()
    ]
