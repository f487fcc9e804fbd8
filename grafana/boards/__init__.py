"""The dashboards, one to a file. `python -m grafana` writes them to `grafana/dashboards/`."""

from __future__ import annotations

from grafana.boards.batching import BATCHING
from grafana.boards.cache import CACHE
from grafana.boards.load_test import LOAD_TEST
from grafana.boards.overview import OVERVIEW
from grafana.boards.workers import WORKERS

BOARDS = {
    "overview": OVERVIEW,
    "batching": BATCHING,
    "cache": CACHE,
    "workers-and-models": WORKERS,
    "load-test": LOAD_TEST,
}
