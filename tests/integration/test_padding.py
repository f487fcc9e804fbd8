"""Texts of different lengths that share batches, over a real socket and with real workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests import models
from tests.integration.server import SluiceProcess, serving
from tests.integration.test_bad_days import write_model

PADDED = """
[padding.inputs.ids]
buckets = [8, 16]

[padding.inputs.mask]
like = "ids"

[padding.outputs.logits]
"""


def body(length: int) -> dict[str, Any]:
    ids = np.random.default_rng(length).integers(0, 50, length)
    inputs = [("ids", ids.tolist()), ("mask", [1] * length)]
    return {
        "inputs": [{"name": name, "shape": [1, length], "datatype": "INT64", "data": data} for name, data in inputs]
    }


def answers(server: SluiceProcess, lengths: list[int]) -> list[Any]:
    def ask(length: int) -> Any:
        return server.client.post("/v2/models/texts/infer", json=body(length)).json()["outputs"]

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, lengths))


def test_a_padded_model_answers_as_it_would_without(tmp_path: Path) -> None:
    lengths = [1, 3, 7, 8, 9, 15, 16, 20] * 5
    with serving(write_model(tmp_path / "plain", "texts", models.texts())) as server:
        plain = answers(server, lengths)
    with serving(write_model(tmp_path / "padded", "texts", models.texts(), PADDED)) as server:
        assert answers(server, lengths) == plain
        own = server.metric("sluice_padding_elements_total", model="texts", kind="own")
        added = server.metric("sluice_padding_elements_total", model="texts", kind="added")
        keys = {curve["key"] for curve in server.client.get("/v2/models/texts/config").json()["sluice"]["curves"]}
    assert own == 2 * sum(lengths)
    assert added == 2 * 5 * (7 + 5 + 1 + 0 + 7 + 1 + 0 + 0)
    assert len(keys) == 3  # two buckets, and the text that is longer than both
