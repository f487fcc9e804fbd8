"""What is made of ramps whose capacity is known, in virtual time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.capacity import COLUMNS, Taken, draw, row
from benchmarks.wrk import Load
from tests.loadgen.test_report import RAMP, queue, reported

CLOSED = Load(requests_per_s=200, p50_ms=1, p99_ms=9.5, cpu_s_per_1000=1)
TAKEN = Taken("digits", 32, CLOSED, [reported(RAMP, queue(each)) for each in (230, 120, 170)])
"""Steps of 50, 100, 150, 200 and 250 requests/s, of which these servers keep up with 200, 100 and 150."""


def test_the_middle_ramp_counts() -> None:
    cells = dict(zip(COLUMNS, row(TAKEN), strict=True))
    assert TAKEN.capacity_per_s == 150
    assert cells["capacity req/s"] == "150"
    assert cells["of the ramps"] == "100 to 200"
    assert cells["rows/s"] == "4,800"
    assert cells["capacity / closed loop"] == "0.75"
    assert cells["p99 ms there"] != "-"


def test_a_ramp_whose_first_step_did_not_hold_has_no_capacity() -> None:
    cells = row(Taken("linear", 1, CLOSED, [reported(RAMP, queue(10))]))
    assert cells[COLUMNS.index("capacity req/s")] == "0"
    assert cells[COLUMNS.index("p99 ms there")] == "-"


def test_the_drawing_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw([TAKEN], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "digits, 32 rows a request" in (tmp_path / "a.svg").read_text()
