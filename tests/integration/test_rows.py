"""That no answer depends on the calls beside it, with models whose rows influence each other, as a user serves them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import influences, models
from tests.integration.server import SluiceProcess, serving

FRESH = {"Cache-Control": "no-store"}


def _tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _call(server: SluiceProcess, model: str, *inputs: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs)}, headers=FRESH)


def _config(server: SluiceProcess, model: str) -> Any:
    return server.client.get(f"/v2/models/{model}/config").json()["sluice"]


def test_answers_are_each_calls_own_and_the_page_says_why_the_model_is_served_alone(tmp_path: Path) -> None:
    slow = "[workers]\ncount = 1\n"
    for name, model in (("first", influences.first_row_only()), ("words", influences.words())):
        models.place(model, tmp_path / name / "1")
        (tmp_path / name / "model.toml").write_text(slow)
    with serving(tmp_path) as server, ThreadPoolExecutor(16) as callers:
        rows = [float(10 + place) for place in range(16)] * 4
        answers = callers.map(lambda value: _call(server, "first", _tensor("x", [1, 8], [value] * 8)), rows)
        assert [answer.json()["outputs"][0]["data"] for answer in answers] == [[value - 6] * 8 for value in rows]
        texts = ["one", "one two three", "one two"] * 16
        answers = callers.map(lambda text: _call(server, "words", _tensor("text", [1], [text], "BYTES")), texts)
        assert [answer.json()["outputs"][0]["data"] for answer in answers] == [text.split() for text in texts]
        for name in ("first", "words"):
            ours = _config(server, name)
            assert (ours["batched"], ours["cache"]["scope"]) == (False, "request")
            assert ours["rows"]["evidence"] == "proven"
            assert ours["rows"]["because"] in ours["cache"]["because"]


def test_inputs_with_rows_of_their_own_are_answered_as_the_model_takes_them(tmp_path: Path) -> None:
    for name, model in (
        ("table", influences.taken_from_a_table()),
        ("regions", influences.regions()),
        ("graph", influences.graph_network()),
        ("sum", influences.sum_of_two()),
    ):
        models.place(model, tmp_path / name / "1")
    with serving(tmp_path) as server:
        answer = _call(
            server, "table", _tensor("table", [3, 2], [1, 2, 3, 4, 5, 6]), _tensor("index", [1], [2], "INT64")
        )
        assert answer.json()["outputs"][0]["data"] == [5, 6]
        picture = _tensor("x", [1, 1, 8, 8], [1] * 64)
        boxes = _tensor("boxes", [3, 4], [0, 0, 4, 4] * 3)
        answer = _call(server, "regions", picture, boxes, _tensor("of", [3], [0, 0, 0], "INT64"))
        assert answer.json()["outputs"][0]["shape"] == [3, 1, 2, 2]
        edges = [_tensor(*each, "INT64") for each in (("sources", [3, 1], [0, 0, 1]), ("targets", [3, 1], [1, 1, 0]))]
        answer = _call(server, "graph", _tensor("nodes", [2, 2], [1, 2, 3, 4]), *edges)
        assert answer.json()["outputs"][0]["data"] == [4, 6, 5, 8]
        answer = _call(server, "sum", _tensor("x", [2, 4], [1] * 8), _tensor("z", [1, 4], [1, 2, 3, 4]))
        assert answer.json()["outputs"][0]["data"] == [2, 3, 4, 5] * 2
        for name in ("table", "regions", "graph", "sum"):
            assert "no common batch axis" in _config(server, name)["rows"]["because"]


def test_labels_that_are_declared_as_one_row_come_for_each(tmp_path: Path) -> None:
    with serving(models.place(influences.one_label(), tmp_path, "trees.onnx")) as server:
        page = server.client.get("/v2/models/trees").json()
        assert [(spec["name"], spec["shape"]) for spec in page["outputs"]] == [
            ("label", [-1]),
            ("probabilities", [-1, 3]),
        ]
        answer = _call(server, "trees", _tensor("x", [3, 3], [1, 0, 0, 0, 0, 1, 0, 1, 0]))
        assert answer.json()["outputs"][0] == _tensor("label", [3], [0, 2, 1], "INT64")
        assert _config(server, "trees")["batched"] is True


def test_a_model_without_evidence_is_batched_once_a_sample_lies_beside_it(tmp_path: Path) -> None:
    models.place(influences.hidden_every_row(1e7), tmp_path / "repository" / "m" / "1")
    with serving(tmp_path / "repository", env=os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}) as server:
        assert _config(server, "m")["batched"] is False
        sample = tmp_path / "repository" / "m" / "sample.json"
        sample.write_text(json.dumps({"inputs": [_tensor("x", [1, 9], [2e7] * 9)]}))
        server.client.post("/v2/repository/models/m/load").raise_for_status()
        ours = _config(server, "m")
        assert ours["batched"] is False
        assert "input 'x' has shape [1, 9]; expected [*, 8]" in ours["rows"]["notes"][0]
        sample.write_text(json.dumps({"inputs": [_tensor("x", [1, 8], [2e7] * 8)]}))
        server.client.post("/v2/repository/models/m/load").raise_for_status()
        ours = _config(server, "m")
        assert (ours["batched"], ours["rows"]["evidence"], ours["rows"]["notes"]) == (True, "tried", [])
        assert ours["cache"]["scope"] == "row"


def test_a_sample_is_recorded_on_request_and_only_once(tmp_path: Path) -> None:
    models.place(influences.hidden_every_row(1e7), tmp_path / "m" / "1")
    sample = tmp_path / "m" / "sample.json"
    with serving(tmp_path, env=os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}) as server:
        _call(server, "m", _tensor("x", [1, 8], [1] * 8)).raise_for_status()
        assert not sample.exists()
        wanted = server.client.post("/v2/repository/models/m/sample")
        assert (wanted.status_code, wanted.json()) == (200, {"file": str(sample)})
        assert _call(server, "m", _tensor("x", [1, 7], [2e7] * 7)).status_code == 400
        assert not sample.exists()
        assert _call(server, "m", _tensor("x", [1, 8], [2e7] * 8)).json()["outputs"][0]["data"] == [1e7] * 8
        assert json.loads(sample.read_text())["inputs"] == [_tensor("x", [1, 8], [2e7] * 8)]
        assert "there is a sample already" in server.client.post("/v2/repository/models/m/sample").json()["error"]
        server.client.post("/v2/repository/models/m/load").raise_for_status()
        assert _config(server, "m")["batched"] is True
        assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "sample.json"]


def test_a_sample_is_recorded_for_operators_alone(tmp_path: Path) -> None:
    with serving(models.place(models.linear(), tmp_path, "double.onnx")) as server:
        assert server.client.post("/v2/repository/models/double/sample").status_code == 403


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    models.place(models.linear(), tmp_path / "models" / "m" / "1")
    log = tmp_path / "log"
    env = os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}
    with serving(tmp_path / "models", env=env, log=log) as server:
        server.client.post("/v2/repository/models/m/sample").raise_for_status()
        (tmp_path / "models" / "m").rename(tmp_path / "models" / "gone")
        assert _call(server, "m", _tensor("x", [1, 1], [3])).json()["outputs"][0]["data"] == [5]
        assert server.stop() == 0
    assert "the sample was not recorded" in log.read_text()


def test_a_model_without_evidence_is_refused_where_it_must_be_batched(tmp_path: Path) -> None:
    models.place(influences.hidden_every_row(1e7), tmp_path / "models" / "m" / "1")
    (tmp_path / "models" / "m" / "model.toml").write_text("batching.batched = true\n")
    log = tmp_path / "log"
    with pytest.raises(AssertionError, match="did not become ready"), serving(tmp_path / "models", log=log):
        pytest.fail("it is served")
    said = " ".join(log.read_text().split())
    assert "output 'boxes' said the same of all " in said
    assert all(way in said for way in ("a sample: ", 'batching.batched = "unchecked"', "another export"))


def test_the_operators_word_batches_a_model_without_evidence(tmp_path: Path) -> None:
    models.place(influences.hidden_every_row(1e7), tmp_path / "m" / "1")
    (tmp_path / "m" / "model.toml").write_text("batching.batched = 'unchecked'\n")
    with serving(tmp_path) as server:
        ours = _config(server, "m")
        assert (ours["batched"], ours["rows"]["evidence"]) == (True, "told")
        (answer,) = _call(server, "m", _tensor("x", [2, 8], [2e7] * 16)).json()["outputs"]
        assert answer["data"] == [1e7] * 16
