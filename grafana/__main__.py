"""`python -m grafana`: write every dashboard to `grafana/dashboards/`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana.boards import BOARDS
from grafana.panels import Dashboard

FOLDER = Path(__file__).with_name("dashboards")


def text(board: Dashboard) -> str:
    """A dashboard's file."""
    return json.dumps(board.json(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(text(board), "utf-8")
