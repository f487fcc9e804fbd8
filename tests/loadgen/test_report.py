"""Reports and verdicts, from whole runs in virtual time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sluice.inference.errors import StartError
from sluice.loadgen.arrivals import times
from sluice.loadgen.figures import PERCENTILES, Figures, spread
from sluice.loadgen.generator import Carried, Progress
from sluice.loadgen.order import MOST_REQUESTS, LoadOrder, Pattern, arrivals, checked
from sluice.loadgen.plot import check_plot, plot
from sluice.loadgen.report import SCHEMA, Called, Report, as_json, report
from sluice.loadgen.summary import progress_line, summary
from tests.loadgen.virtual import World, stalling

CALLED = Called("http://127.0.0.1:1/infer", 1, 2.0, ("Cache-Control",))
LOAD = LoadOrder(
    rate_per_s=200, pattern=Pattern.CONSTANT, duration_s=15, warm_up_s=1.5, objective_ms=50, connections=200
)
RAMP = LoadOrder(
    rate_per_s=50, to_rate_per_s=250, steps=5, pattern=Pattern.RAMP, duration_s=50, objective_ms=100, connections=200
)


def carried(
    load: LoadOrder,
    answers: Callable[[float], tuple[float, int] | None],
    stopped_s: float | None = None,
    busy: float = 0.1,
) -> Carried:
    due_s = times(arrivals(load), load.length_s, load.seed)
    requests = World(answers).requests(due_s, load.connections, load.timeout_s)
    clock_s = np.array([0.0, load.length_s])
    return Carried(requests, stopped_s, sampled_s=clock_s, cpu_s=clock_s * busy, reopened=0)


def reported(load: LoadOrder, answers: Callable[[float], tuple[float, int] | None]) -> Report:
    return report(CALLED, load, carried(load, answers), "2026-01-01T00:00:00+00:00")


def queue(capacity_per_s: float) -> Callable[[float], tuple[float, int]]:
    """A server that answers in order, so many in a second, and refuses nothing."""
    free_s = 0.0

    def answers(sent_s: float) -> tuple[float, int]:
        nonlocal free_s
        free_s = max(free_s, sent_s) + 1 / capacity_per_s
        return free_s, 200

    return answers


def test_percentiles_are_those_of_every_sample() -> None:
    seconds = np.random.default_rng(1).exponential(size=12_345)
    found = spread(seconds)

    assert found is not None
    ordered = np.sort(seconds) * 1e3
    for percentile, value in zip(PERCENTILES, msgspec.structs.astuple(found)[2:7], strict=True):
        place = percentile / 100 * (len(ordered) - 1)
        assert ordered[math.floor(place)] <= value <= ordered[math.ceil(place)]
    assert found.max_ms == ordered[-1]
    assert spread(np.array([])) is None


def test_a_server_whose_stalls_are_known_is_reported_as_it_is() -> None:
    seen = reported(LOAD, stalling)

    assert seen.figures.ok is not None
    assert seen.figures.counts.offered == 3000
    assert seen.counts.offered == 3300
    assert seen.figures.ok.mean_ms == pytest.approx(53, abs=2)
    assert seen.figures.ok.p90_ms == pytest.approx(250, abs=5)
    assert seen.figures.ok.p99_ms == pytest.approx(385, abs=5)
    assert seen.figures.good_share == pytest.approx(1 - 0.35 / 1.5, abs=0.005)
    assert (seen.met, seen.trusted, seen.capacity_per_s, seen.steps) == (False, True, None, ())
    assert "Objective not kept: 76.4" in summary(seen)


def test_an_objective_that_is_kept_is_met_and_none_is_neither() -> None:
    kept = reported(msgspec.structs.replace(LOAD, objective_ms=401), stalling)
    without = reported(msgspec.structs.replace(LOAD, objective_ms=None), stalling)

    assert kept.met is True
    assert without.met is None
    assert without.figures.good_share == 1.0


def test_a_ramp_finds_the_capacity_of_a_queue() -> None:
    seen = reported(RAMP, queue(180))

    assert [step.rate_per_s for step in seen.steps] == [50, 100, 150, 200, 250]
    assert [step.held for step in seen.steps] == [True, True, True, False, False]
    assert (seen.capacity_per_s, seen.met, seen.trusted) == (150, True, True)
    assert "Capacity: 150.0 requests/s (99.0% within 100 ms)." in summary(seen)


def test_a_ramp_that_never_breaks_says_that_there_may_be_more() -> None:
    seen = reported(RAMP, queue(1000))

    assert seen.capacity_per_s == 250
    assert "or more: every step held" in summary(seen)


def test_a_ramp_that_breaks_at_once_has_no_capacity() -> None:
    seen = reported(RAMP, queue(20))

    assert (seen.capacity_per_s, seen.met) == (None, False)
    assert "below the first step" in summary(seen)


def test_a_step_that_holds_after_one_that_did_not_is_luck() -> None:
    def answers(sent_s: float) -> tuple[float, int]:
        return sent_s + 0.001, 500 if 11 <= sent_s < 21 else 200

    seen = reported(RAMP, answers)

    assert [step.held for step in seen.steps] == [True, False, True, True, True]
    assert seen.capacity_per_s == 50


def test_too_few_connections_are_a_doubt_where_the_objective_was_kept_and_the_finding_where_it_was_not() -> None:
    few = msgspec.structs.replace(RAMP, connections=3)
    kept = reported(few, lambda sent_s: (sent_s + 0.02, 200))
    broken = reported(msgspec.structs.replace(RAMP, connections=40), queue(180))

    assert not kept.trusted
    assert "waited for a free connection" in kept.doubts[0]
    assert broken.steps[3].figures.faults
    assert broken.trusted


def test_a_generator_that_was_late_is_not_trusted_and_the_summary_says_so() -> None:
    run = carried(LOAD, lambda sent_s: (sent_s, 200))
    late = msgspec.structs.replace(run.requests, sent_s=run.requests.sent_s + 0.01)
    seen = report(CALLED, LOAD, msgspec.structs.replace(run, requests=late), "")

    assert not seen.trusted
    assert "NOT TO BE TRUSTED: the generator did not keep up: it sent 10.0 ms late (p99)." in summary(seen)


@pytest.mark.parametrize("load", [LOAD, RAMP])
def test_a_generator_that_had_no_time_to_read_answers_is_not_trusted(load: LoadOrder) -> None:
    seen = report(CALLED, load, carried(load, lambda sent_s: (sent_s, 200), busy=0.95), "")

    assert any("the generator was busy 95% of the time" in doubt for doubt in seen.doubts)


def test_a_run_that_is_stopped_is_about_what_was_done() -> None:
    run = carried(LOAD, stalling, stopped_s=7.5)
    seen = report(CALLED, LOAD, run, "")

    assert (seen.window.end_s, seen.stopped, seen.figures.counts.offered) == (7.5, True, 1200)
    with pytest.raises(StartError, match="before the warm-up was over"):
        report(CALLED, LOAD, carried(LOAD, stalling, stopped_s=1.0), "")


def test_steps_that_were_not_over_are_left_out() -> None:
    seen = report(CALLED, RAMP, carried(RAMP, queue(1000), stopped_s=25.0), "")

    assert [step.rate_per_s for step in seen.steps] == [50, 100]


def test_every_outcome_is_in_the_summary() -> None:
    def answers(sent_s: float) -> tuple[float, int] | None:
        kind = round(sent_s * 200) % 5
        if kind == 0:
            return None
        return (math.inf, 200) if kind == 1 else (sent_s + 0.001, (200, 429, 500)[kind - 2])

    load = msgspec.structs.replace(LOAD, connections=60, duration_s=1, warm_up_s=0, timeout_s=0.2)
    text = summary(reported(load, answers))

    for words in (
        "200:",
        "429:",
        "500:",
        "connection lost:",
        "no answer in time:",
        "no connection in time:",
        "refusals",
    ):
        assert words in text


def test_a_report_is_json_that_can_be_read_again() -> None:
    seen = reported(RAMP, queue(180))
    text = as_json(seen)

    assert msgspec.json.decode(text, type=Report) == seen
    assert json.loads(text)["schema"] == SCHEMA
    assert json.loads(text)["steps"][0]["figures"]["ok"]["p99_9_ms"] > 0


def test_the_schema_is_documented_field_by_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "load.md").read_text()

    for struct in (Report, Figures):
        for field in struct.__struct_fields__:
            assert f"`{field}`" in page, f"docs/load.md says nothing of {field}"


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (LoadOrder(rate_per_s=10, pattern=Pattern.RAMP, objective_ms=1), "--to-rate"),
        (LoadOrder(rate_per_s=10, pattern=Pattern.RAMP, objective_ms=1, to_rate_per_s=10), "be higher"),
        (LoadOrder(rate_per_s=10, pattern=Pattern.RAMP, to_rate_per_s=20), "--objective-ms"),
        (LoadOrder(rate_per_s=10, to_rate_per_s=20), "for --pattern ramp"),
        (LoadOrder(rate_per_s=10_000, duration_s=1000), f"{MOST_REQUESTS:,}"),
        (LoadOrder(rate_per_s=0.01, duration_s=10), "not one request"),
    ],
)
def test_a_load_that_contradicts_itself_is_told(load: LoadOrder, words: str) -> None:
    with pytest.raises(StartError, match=words):
        checked(load)


@pytest.mark.parametrize("pattern", [Pattern.POISSON, Pattern.CONSTANT, Pattern.BURSTS])
def test_the_rate_is_the_mean_of_every_pattern(pattern: Pattern) -> None:
    load = LoadOrder(rate_per_s=300, pattern=pattern, burst_s=0.2, gap_s=0.3, duration_s=99, warm_up_s=1)

    assert len(times(arrivals(load), load.length_s, 3)) == pytest.approx(300 * 100, rel=0.02)


def test_a_ramp_without_warm_up_begins_with_its_first_step() -> None:
    load = msgspec.structs.replace(RAMP, warm_up_s=0)

    assert (times(arrivals(load), load.length_s, 1) < 10).sum() == pytest.approx(500, rel=0.15)


def test_progress_says_what_has_ended_since_the_last_time() -> None:
    requests = carried(LOAD, lambda sent_s: (sent_s + 0.002, 200 if sent_s < 10 else 500)).requests

    text = progress_line(Progress(16.5, 10, 0, requests), LOAD, over_s=16.5)
    stuck = progress_line(Progress(16.5, 200, 1500, requests), LOAD, over_s=16.5)

    assert text == " 16.5 of 16.5 s: 200 answers/s, p50 2.00 p99 2.00 ms, 1,300 not 2xx, 10 under way"
    assert stuck.endswith("200 under way, 1,500 waiting for a connection")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_runs_and_ramps_are_drawn(tmp_path: Path, suffix: str) -> None:
    for load in (LOAD, RAMP):
        run = carried(load, stalling)
        file = tmp_path / f"{load.pattern}{suffix}"
        check_plot(file)
        plot(report(CALLED, load, run, ""), run.requests, file)
        assert file.stat().st_size > 5000


def test_a_run_without_any_good_answer_is_drawn_too(tmp_path: Path) -> None:
    run = carried(LOAD, lambda sent_s: (sent_s, 500))
    plot(report(CALLED, LOAD, run, ""), run.requests, tmp_path / "none.png")

    assert (tmp_path / "none.png").exists()


def test_a_plot_that_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"ends in \.svg, \.png, \.pdf"):
        check_plot(tmp_path / "plot.gif")
    run = carried(LOAD, stalling)
    with pytest.raises(StartError, match="cannot be written"):
        plot(report(CALLED, LOAD, run, ""), run.requests, tmp_path / "nowhere" / "plot.png")
