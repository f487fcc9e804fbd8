from __future__ import annotations

import json
from pathlib import Path

from sluice.gateway.commands.show_settings import as_json_text, as_table
from sluice.gateway.settings.load import load_settings
from sluice.inference.config.model_config import MIB


def test_the_table_has_key_value_and_origin(tmp_path: Path) -> None:
    loaded = load_settings(
        {}, environ={"SLUICE_SERVER_PORT": "0", "SLUICE_SERVER_MAX_BODY_BYTES": "1000"}, folder=tmp_path
    )
    lines = as_table(loaded).splitlines()
    assert len(lines) == 1 + len(loaded.origins)
    rows = [line.split() for line in lines]
    assert rows[0] == ["KEY", "VALUE", "ORIGIN"]
    assert ["server.port", "0", "SLUICE_SERVER_PORT"] in rows
    assert ["server.host", '"127.0.0.1"', "default"] in rows
    assert ["server.tls_cert", "-", "default"] in rows
    assert ["server.max_body_bytes", "1000", "SLUICE_SERVER_MAX_BODY_BYTES"] in rows
    assert ["batching.max_queue_bytes", '"256MiB"', "default"] in rows
    column = lines[0].index("VALUE")
    assert all(line[column - 1] == " " != line[column] for line in lines)


def test_the_json_has_value_and_origin(tmp_path: Path) -> None:
    shown = json.loads(as_json_text(load_settings({"models.path": "m"}, environ={}, folder=tmp_path)))
    assert shown["models.path"] == {"value": "m", "origin": "MODELS"}
    assert shown["batching.max_queue_bytes"] == {"value": 256 * MIB, "origin": "default"}
    assert shown["server.tls_key"] == {"value": None, "origin": "default"}
