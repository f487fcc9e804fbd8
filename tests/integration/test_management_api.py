"""TorchServe's management API on a port of its own, against a real server that is called all the while."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import models
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, Answer, SluiceProcess, serving, v2
from tests.integration.test_bad_days import load


def free_port() -> str:
    """A port that was free a moment ago, since 0 means none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def write_repository(folder: Path) -> Path:
    for version in (1, 2):
        models.place(models.linear(), folder / "linear" / str(version))
    models.place(models.widened(3), folder / "widened" / "1")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "models")


@contextmanager
def serving_managed(repository: Path) -> Iterator[tuple[SluiceProcess, httpx.Client]]:
    port = free_port()
    with (
        serving(repository, "--management-port", port) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as manager,
    ):
        yield server, manager


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SluiceProcess, httpx.Client]]:
    """For tests that leave everything as it is."""
    with serving_managed(write_repository(tmp_path_factory.mktemp("managed") / "models")) as both:
        yield both


@pytest.fixture
def to_be_changed(repository: Path) -> Iterator[tuple[SluiceProcess, httpx.Client]]:
    with serving_managed(repository) as both:
        yield both


@pytest.fixture(scope="module")
def examples_managed() -> Iterator[httpx.Client]:
    port = free_port()
    with (
        serving(EXAMPLES, "--management-port", port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as manager,
    ):
        yield manager


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"], problem["type"]) == (status, status, kind), answer.text
    return str(problem["message"])


def test_models_are_listed_and_described(managed: tuple[SluiceProcess, httpx.Client]) -> None:
    server, manager = managed
    assert manager.get("/ping").json() == {"status": "Healthy"}
    lines = [{"modelName": name, "modelUrl": name} for name in ("linear", "widened")]
    assert manager.get("/models").json() == {"models": lines}
    page = manager.get("/models", params={"limit": 1}).json()
    assert page == {"nextPageToken": "1", "models": lines[:1]}
    assert manager.get("/models", params={"limit": 1, "next_page_token": 1}).json() == {"models": lines[1:]}
    [described] = manager.get("/models/linear").json()
    assert (described["modelName"], described["modelVersion"], described["minWorkers"]) == ("linear", "2", 1)
    assert described["jobQueueStatus"] == {"remainingCapacity": 4096, "pendingRequests": 0}
    assert {worker["pid"] for worker in described["workers"]} <= {each.pid for each in server.workers()}
    assert [each["modelVersion"] for each in manager.get("/models/linear/all").json()] == ["1", "2"]
    assert [each["modelVersion"] for each in manager.get("/models/linear/1.0").json()] == ["1"]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("limit=&next_page_token=", slice(None)),
        ("limit=-1", slice(None)),
        ("limit=0&next_page_token=-1", slice(None)),
        ("limit=x&next_page_token=y", slice(None)),
        ("limit=101", slice(None)),
        ("limit=1&next_page_token=", slice(0, 1)),
        ("limit=&next_page_token=1", slice(1, None)),
        ("limit=-5&next_page_token=2", slice(2, None)),
        ("limit=99999999999999999999", slice(None)),
        ("next_page_token=999999999", slice(2, None)),
    ],
)
def test_numbers_that_are_empty_or_none_are_left_out(
    examples_managed: httpx.Client, query: str, place: slice[int | None, int | None, None]
) -> None:
    """As in TorchServe, whose clients send each parameter whether they have a value for it or not."""
    page = examples_managed.get(f"/models?{query}")
    assert page.status_code == 200
    assert [each["modelName"] for each in page.json()["models"]] == ["digits", "linear"][place]


def test_other_parameters_may_be_empty_too(examples_managed: httpx.Client) -> None:
    workers = len(examples_managed.get("/models/linear").json()[0]["workers"])
    told = examples_managed.put("/models/linear?min_worker=&max_worker=&synchronous=")
    assert told.json() == {"status": f"Workers scaled to {workers} for model: linear"}
    refused(examples_managed.post("/models?url=linear&model_name="), 409, "ConflictStatusException")
    refused(examples_managed.put("/models/linear?min_worker=-1"), 400, "BadRequestException")


def test_what_is_wrong_is_said_in_its_form(managed: tuple[SluiceProcess, httpx.Client]) -> None:
    _, manager = managed
    refused(manager.get("/models/nobody"), 404, "ModelNotFoundException")
    refused(manager.get("/models/linear/9"), 404, "ModelVersionNotFoundException")
    refused(manager.put("/models/linear/9/set-default"), 404, "ModelVersionNotFoundException")
    refused(manager.get("/nowhere"), 404, "ResourceNotFoundException")
    refused(manager.patch("/models"), 405, "MethodNotAllowedException")
    refused(manager.post("/models"), 400, "BadRequestException")
    refused(manager.post("/models", params={"url": "nobody"}), 404, "ModelNotFoundException")
    refused(manager.post("/models", params={"url": "linear"}), 409, "ConflictStatusException")
    assert "workers.count" in refused(
        manager.put("/models/linear", params={"min_worker": 60}), 400, "BadRequestException"
    )
    assert manager.put("/models/linear/1", params={"min_worker": 1}).json() == {
        "status": "Workers scaled to 1 for model: linear"
    }


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/m.mar", "file:///etc", "/etc", "..", ".", "", "a/b", "../models/linear", "/"]
)
def test_nothing_is_loaded_but_what_lies_in_the_repository(
    managed: tuple[SluiceProcess, httpx.Client], url: str
) -> None:
    answer = managed[1].post("/models", params={"url": url})
    assert "nothing is downloaded" in refused(answer, 400, "BadRequestException")


def test_versions_come_and_go_while_they_are_called(
    to_be_changed: tuple[SluiceProcess, httpx.Client], repository: Path
) -> None:
    """No call is lost, and the version that answers is the one that was chosen."""
    server, manager = to_be_changed
    versions = set()

    def answered(answer: Answer) -> None:
        assert answer.status == 200, answer.body
        versions.add(answer.json()["model_version"])

    with load(server, "linear", answered, clients=4):
        assert manager.put("/models/linear/1.0/set-default").status_code == 200
        assert server.infer("linear", v2("x", [1, 1], [1.0])).json()["model_version"] == "1"
        refused(manager.delete("/models/linear/1"), 403, "InvalidModelVersionException")
        assert manager.delete("/models/linear/2").json() == {"status": 'Model "linear" unregistered'}
        models.place(models.linear(), repository / "linear" / "3")
        status = manager.post("/models", params={"url": "linear", "model_name": "linear", "initial_workers": "1"})
        assert status.status_code == 200, status.text
        assert manager.put("/models/linear/3/set-default").status_code == 200
        assert server.infer("linear", v2("x", [1, 1], [1.0])).json()["model_version"] == "3"
    assert versions <= {"1", "2", "3"}
    assert [each["modelVersion"] for each in manager.get("/models/linear/all").json()] == ["1", "2", "3"]
    assert manager.delete("/models/linear").status_code == 200
    assert server.infer("linear", v2("x", [1, 1], [1.0])).status_code == 404
    told = manager.post("/models", params={"url": str(repository / "linear")}).json()["status"]
    assert told == 'Model "linear" Version: 3 registered with 1 initial workers'
    assert server.stop() == 0


def test_a_taken_port_is_told_before_anything_is_loaded(repository: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with (
            pytest.raises(AssertionError, match="did not become ready"),
            serving(repository, "--management-port", port, log=tmp_path / "log"),
        ):
            pass
    told = (tmp_path / "log").read_text()
    assert f"cannot listen on 127.0.0.1:{port} for the management API" in told
    assert "--management-port" in told
