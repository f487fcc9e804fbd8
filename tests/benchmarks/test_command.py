from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks.simulation.__main__ import main
from benchmarks.simulation.checks import checks
from benchmarks.simulation.rivals import FIXED
from benchmarks.simulation.run import SLUICE
from benchmarks.simulation.score import Score
from benchmarks.simulation.tables import details, overview


def _score(policy: str, of_ideal: float, scenario: str = "mlp bursts 0.7") -> Score:
    return Score(
        scenario=scenario,
        policy=policy,
        requests=1,
        goodput=1_000 * of_ideal,
        of_offered=of_ideal / 2,
        of_ideal=of_ideal,
        p50_s=0.001,
        p99_s=0.002,
        late=0.0,
        refused=0.5,
        dropped=0.0,
        told_s=0.0,
        batch_rows=3.0,
        busy=0.9,
        shed_precision=1.0,
        by_client={},
    )


@pytest.mark.parametrize(("ours", "holds"), [(0.90, True), (0.87, False)])
def test_sluice_has_to_be_close_to_the_best_of_a_scenario(ours: float, holds: bool) -> None:
    made = checks([_score(SLUICE, ours), _score("deferred", 0.9), _score("AIMD", 0.1)])

    assert [(check.what, check.holds) for check in made] == [
        ("mlp bursts 0.7: goodput over the best (deferred)", holds)
    ]


@pytest.mark.parametrize(("theirs", "holds"), [(0.80, True), (0.85, False)])
def test_sluice_has_to_be_ahead_of_a_fixed_setting_where_it_is_bursty(theirs: float, holds: bool) -> None:
    setting = next(iter(FIXED))
    bursty = [_score(SLUICE, 0.9), _score(setting, theirs)]
    steady = [_score(SLUICE, 0.9, "mlp 0.9"), _score(setting, 0.9, "mlp 0.9")]

    made = {check.what: check.holds for check in checks([*bursty, *steady])}

    assert made[f"1 bursty scenarios: goodput over {setting}"] is holds


def test_the_overview_marks_the_best_of_each_scenario() -> None:
    lines = overview([_score(SLUICE, 0.95), _score("AIMD", 0.5)]).splitlines()

    assert lines[0] == f"| scenario | {SLUICE} | AIMD |"
    assert lines[2] == "| mlp bursts 0.7 | **0.950** | 0.500 |"


def test_the_details_name_capacity_and_objective() -> None:
    text = details([_score(SLUICE, 0.95)])

    assert "objective 50 ms" in text
    assert f"| {SLUICE} | 950 |" in text


def test_the_command_writes_what_it_measured_and_says_which_bounds_were_missed(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"

    result = CliRunner().invoke(main, ["image bursts", "--policies", "AIMD,triton 64/0", "--json", str(file)])

    assert result.exit_code == 0, result.output
    scores = msgspec.json.decode(file.read_bytes(), type=list[Score])
    assert [each.policy for each in scores] == ["AIMD", "triton 64/0"]
    assert "| image bursts 1.0 |" in result.output


def test_the_command_names_what_there_is() -> None:
    assert "mlp bursts 0.7" in CliRunner().invoke(main, ["nothing"]).output
    assert "deferred" in CliRunner().invoke(main, ["mlp 0.5", "--policies", "nobody"]).output
