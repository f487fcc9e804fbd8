"""The dashboards are what their code says, complete, and every panel has something to show."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from grafana.__main__ import FOLDER, text
from grafana.boards import BOARDS
from tests.docs.test_metrics import families
from tests.grafana.prometheus import Prometheus, scraping
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PlainClient, SluiceProcess, serving, v2
from tests.redis_server import redis_server

RARE = {"Padding waste", "Failures"}
"""Panels that are empty where nothing is padded, and where Redis is well."""

PAUSE_S = 0.01
"""Between the calls of a client."""

BOARD_FILES = sorted(FOLDER.glob("*.json"))


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_code_writes() -> None:
    assert {file.stem for file in BOARD_FILES} == set(BOARDS)
    for name, board in BOARDS.items():
        assert (FOLDER / f"{name}.json").read_text() == text(board), "run python -m grafana"


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.stem)
def test_every_panel_says_what_it_shows_and_in_which_unit(file: Path) -> None:
    board = json.loads(file.read_text())
    assert board["description"]
    assert {variable["name"] for variable in board["templating"]["list"]} == {
        "datasource",
        "instance",
        "model",
        "version",
    }
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(file):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.stem)
def test_every_metric_exists(file: Path) -> None:
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    names = {family.name + part for family in families() for part in parts.get(family.kind, ("",))}
    for panel in panels(file):
        for target in panel["targets"]:
            assert set(re.findall(r"sluice_\w+", target["expr"])) <= names


@contextmanager
def under_load(server: SluiceProcess) -> Iterator[None]:
    """Calls of every kind: computed, cached, late, wrong and for nobody, one after another, at most 60,000."""
    done = threading.Event()

    def call() -> None:
        with closing(PlainClient(server)) as client:
            for number in range(20_000):
                if done.wait(PAUSE_S):
                    return
                rows = [float(number), float(number % 7)]  # one that is new, and one that is known
                client.infer("linear", v2("x", [2, 1], rows), headers={})
                if number % 20 == 0:
                    client.infer("linear", v2("x", [1, 2], rows), headers={})
                    timeout = {"X-Request-Timeout-Ms": "0.001"}
                    client.infer("linear", v2("x", [2, 1], rows), headers=timeout)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        done.set()
        for caller in callers:
            caller.join()


def concrete(expression: str) -> str:
    """The expression as Grafana would send it with every variable at All."""
    for name in ("instance", "model", "version"):
        expression = expression.replace(f"${name}", ".*")
    expression = expression.replace("$__rate_interval", "8s")
    assert "$" not in expression
    return expression


def values(prometheus: Prometheus, expression: str) -> list[float]:
    """The numbers of an expression's series."""
    found = [float(series["value"][1]) for series in prometheus.query(expression)]
    return [value for value in found if not math.isnan(value)]


def test_every_panel_shows_data_of_a_gateway_under_load(tmp_path: Path) -> None:
    objective = {"SLUICE_BATCHING_LATENCY_OBJECTIVE_MS": "2000"}
    with (
        redis_server(tmp_path) as redis,
        serving(EXAMPLES, env=os.environ | objective | {"SLUICE_CACHE_REDIS_URL": redis.url}) as server,
    ):
        target = str(server.client.base_url).removeprefix("http://").rstrip("/")
        with scraping(target, tmp_path) as prometheus, under_load(server):
            while not prometheus.ready() or prometheus.scrapes() < 8:
                threading.Event().wait(0.2)
            shown = [
                (f"{file.stem}: {panel['title']}: {target['expr']}", values(prometheus, concrete(target["expr"])))
                for file in BOARD_FILES
                for panel in panels(file)
                for target in panel["targets"]
            ]
            assert [name for name, found in shown if not found and name.split(": ")[1] not in RARE] == []
