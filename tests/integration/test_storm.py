"""Workers are ended and stopped at random while callers check every answer: none but a poison fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import models
from tests.integration.chaos import LEAST, Toll, storm, stormy
from tests.integration.server import serving, v2

STORM_S = float(os.environ.get("SLUICE_STORM_S", "1800"))


def check(toll: Toll) -> None:
    assert toll.calls > 0
    assert toll.faults.total() > 0
    assert toll.failed == []
    assert toll.wrong == []
    assert toll.unlike_poison == []


def test_a_short_storm_with_poisons_in_it(tmp_path: Path) -> None:
    with stormy(tmp_path) as server:
        toll = storm(server, for_s=2.5, every_s=0.2, seed=1, poisons_every_s=0.4)
    check(toll)
    assert toll.poisons.total() > 0


@pytest.mark.nightly
@pytest.mark.parametrize("poisons_every_s", [None, 10.0])
def test_half_an_hour_of_storm(tmp_path: Path, poisons_every_s: float | None) -> None:
    with stormy(tmp_path) as server:
        check(storm(server, for_s=STORM_S, every_s=2.0, seed=2, poisons_every_s=poisons_every_s))


def test_a_request_that_crashes_its_workers_fails_alone_and_its_copies_at_once(tmp_path: Path) -> None:
    def over(x: int, by: int) -> dict[str, object]:
        return {"inputs": v2("x", [1, 1], [x], "INT64")["inputs"] + v2("by", [1, 1], [by], "INT64")["inputs"]}

    log = tmp_path / "log"
    models.place(models.divide(), tmp_path / "models/divide/1")
    with serving(tmp_path / "models", log=log) as server:
        answer = server.infer("divide", over(LEAST, -1))
        assert answer.status_code == 500
        told = answer.json()["error"]
        assert told.startswith("worker processes died in 2 runs of this request, each time alone; ")
        assert "the last one was ended by SIGFPE, " in told
        for _ in range(10):
            copy = server.infer("divide", over(LEAST, -1))
            assert copy.status_code == 500
            assert "the same input as" in copy.json()["error"]
        assert server.outputs("divide", over(LEAST, 1)) == {"y": [LEAST]}
        assert server.outputs("divide", over(12, -4)) == {"y": [-3]}
        assert server.metric("sluice_worker_deaths_total", model="divide", cause="crashed") == 2
        assert server.metric("sluice_worker_deaths_total") == 2
    assert log.read_text().count("was ended by SIGFPE, ") >= 2
