"""TensorFlow Serving's REST API, as its users call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.integration.server import SluiceProcess, serving
from tests.integration.test_bad_days import write_model

FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_the_classic_call(examples: SluiceProcess) -> None:
    """`curl -d '{"instances": [[1.0]]}' -X POST …/v1/models/linear:predict`; curl calls that a form."""
    answer = examples.client.post("/v1/models/linear:predict", content=b'{"instances": [[1.0]]}', headers=FORM)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [[1.0]]})
    assert answer.headers["content-type"] == "application/json"


def test_values_for_examples(examples: SluiceProcess) -> None:
    answer = examples.client.post("/v1/models/linear:regress", json={"examples": [{"x": 3}, {"x": [10]}]})
    assert answer.json() == {"results": [5.0, 19.0]}


def test_a_model_tells_about_itself(examples: SluiceProcess) -> None:
    get = examples.client.get
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert get("/v1/models/linear/versions/1").json() == {"model_version_status": [status]}
    page = get("/v1/models/linear").json()
    assert page.pop("created") > 1_700_000_000
    # OpenAI's clients ask by the same path.
    assert page == {"model_version_status": [status], "id": "linear", "object": "model", "owned_by": "sluice"}
    page = get("/v1/models/linear/metadata").json()
    assert page["model_spec"] == {"name": "linear", "signature_name": "", "version": "1"}
    definition = page["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [each["size"] for each in definition["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "1"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/nobody:predict", '{"instances": [1]}', 404),
        ("/v1/models/linear/versions/9:predict", '{"instances": [[1]]}', 404),
        ("/v1/models/linear/labels/none:predict", '{"instances": [[1]]}', 404),
        ("/v1/models/linear:predict", "{", 400),
        ("/v1/models/linear:predict", '{"instances": [["a"]]}', 400),
        ("/v1/models/linear:predict", '{"instances": [[1, 2]]}', 400),
        ("/v1/models/linear:predict", '{"instances": [[NaN], [1%s]]}' % ("0" * 400), 400),
        ("/v1/models/linear:classify", '{"examples": [{"x": 1}]}', 200),
        ("/v1/models/digits:regress", '{"examples": [{"pixels": 1}]}', 400),
    ],
)
def test_errors_are_told_in_its_own_words(examples: SluiceProcess, path: str, body: str, status: int) -> None:
    answer = examples.client.post(path, content=body)
    assert answer.status_code == status, answer.text
    assert status == 200 or set(answer.json()) == {"error"}
    assert examples.client.get("/v1/models/nobody").status_code == 404
    assert examples.client.get("/v1/models/linear:predict").status_code == 405


def test_what_is_found_is_told_in_rows_however_much_it_is(tmp_path: Path) -> None:
    """Since TensorFlow Serving 2.3: as many predictions as the output is long, also none."""
    repository = write_model(tmp_path / "models", "boxes", models.nonzero())
    with serving(repository) as server:

        def predictions(*rows: list[float]) -> Any:
            answer = server.client.post("/v1/models/boxes:predict", json={"instances": rows})
            assert answer.status_code == 200, answer.text
            return answer.json()["predictions"]

        assert predictions([0, 0, 0]) == []
        assert predictions([9, 8, 7]) == [[0, 0], [0, 1], [0, 2]]
        assert predictions([9, 0, 0], [0, 0, 9], [0, 0, 0]) == [[0, 0], [1, 2]]
        told = server.client.post("/invocations", json={"instances": [[9, 9, 0]]})
        assert told.json() == {"predictions": [[0, 0], [0, 1]]}
        columns = server.client.post("/v1/models/boxes:predict", json={"inputs": [[0, 0, 0]]})
        assert columns.json() == {"outputs": []}
