"""Every way to run a row is measured, and a call takes no less time than the engine in it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.one_caller import (
    BLOCK_CALLS,
    BY_BATCHER,
    BY_PROMISING,
    BY_WORKERS,
    IN_A_LOOP,
    ON_REQUEST,
    SETTLING_CALLS,
    one_caller,
)
from benchmarks.waiting_run import waiting_run
from tests import models


def test_all_ways_are_measured_call_by_call(tmp_path: Path) -> None:
    ways = {way.name: way for way in one_caller(models.place(models.tiny(), tmp_path), threads=1, rows=1, blocks=2)}

    assert list(ways) == [IN_A_LOOP, ON_REQUEST, BY_WORKERS, BY_BATCHER, BY_PROMISING]
    for way in ways.values():
        assert way.wall.samples == way.engine.samples == 2 * (BLOCK_CALLS - SETTLING_CALLS)
        assert way.wall.p50_ms >= way.engine.p50_ms > 0
    for name in (ON_REQUEST, BY_WORKERS, BY_BATCHER, BY_PROMISING):
        assert ways[name].added.p50_ms > 0


def test_a_waiting_process_runs_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    with waiting_run(models.place(models.tiny(), tmp_path), threads=1, rows=3) as run:
        for times in (1, 7, 255):
            seconds = run(times)
            assert len(seconds) == times
            assert min(seconds) > 0
