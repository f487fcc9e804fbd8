"""What is broken in a repository, and what is no model, each with a real `sluice serve`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import models
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving, with_grpc
from tests.integration.test_in_the_field import LINEAR, POWERLESS, alone, ask, needs_root, put_weights

NO_MODEL = "the repository has something that is no model"
"""The log line about what is passed over."""


@pytest.fixture
def half_broken(tmp_path: Path) -> Path:
    """Two models that can be served, one of which has a broken version, two that cannot, and bystanders."""
    root = tmp_path / "models"
    shutil.copytree(EXAMPLES, root)
    models.place(b"no model", root / "bad/1")
    models.place(models.external_weights("gone.bin"), root / "weightless/1")
    (root / "linear/2").mkdir()
    for name in ("lost+found", "@eaDir", "two words", "__pycache__", ".git", "linear/lost+found"):
        (root / name).mkdir()
    return root


def test_what_is_broken_is_told_and_the_others_are_served(half_broken: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    env = os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}
    with serving(half_broken, "--log-format", "json", *with_grpc(), env=env, log=log) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
        ready = server.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (
            200,
            {"ready": True, "broken": ["bad/1", "linear/2", "weightless/1"]},
        )
        assert server.metric("sluice_models_broken") == 3
        health = server.client.get("/v2/health").json()
        reasons = {f"{each['name']}/{each['version']}": each["reason"] for each in health["broken"]}
        assert reasons["linear/2"].endswith(f"the model of version 2 must be {half_broken}/linear/2/model.onnx")
        assert "but there is no" in reasons["weightless/1"]
        assert reasons["bad/1"].startswith(f"{half_broken}/bad/1/model.onnx: ")
        index = {(each["name"], each["version"]): each for each in server.client.post("/v2/repository/index").json()}
        assert index["bad", "1"]["state"] == "UNAVAILABLE"
        assert index["bad", "1"]["reason"] == reasons["bad/1"]
        assert index["linear", "1"]["state"] == "READY"
        ready = server.client.get("/v2/models/bad/ready")
        assert (ready.status_code, ready.json()) == (503, {"name": "bad", "ready": False})
        refused = server.infer("bad", LINEAR)
        assert (refused.status_code, refused.json()) == (
            503,
            {"error": "model 'bad' is in the repository and cannot be served; GET /v2/health says why"},
        )
        _is_told_over_grpc(server)
        assert server.client.post("/v2/repository/models/linear/load").status_code == 400
        (half_broken / "linear/2").rmdir()
        assert server.client.post("/v2/repository/models/linear/load").status_code == 200
        assert server.client.get("/v2/health/ready").json()["broken"] == ["bad/1", "weightless/1"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    passed_over = {line["what"].partition(": ")[0] for line in lines if line["event"] == NO_MODEL}
    names = ("lost+found", "@eaDir", "two words", "__pycache__", ".git", "linear/lost+found")
    assert passed_over == {f"{half_broken}/{name}" for name in names}
    assert {line["model"] for line in lines if line["event"] == "a model cannot be served"} == {
        "bad",
        "linear",
        "weightless",
    }


def _is_told_over_grpc(server: SluiceProcess) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.is_server_ready()
        assert client.is_model_ready("linear")
        assert not client.is_model_ready("bad")
        assert not client.is_model_ready("linear", "2")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        told = {
            service: health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status
            for service in ("", "linear", "bad")
        }
    serving_, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert told == {"": serving_, "linear": serving_, "bad": not_serving}


def test_where_all_have_to_be_served_every_broken_one_is_named(half_broken: Path) -> None:
    ended = alone(
        str(SLUICE),
        "serve",
        str(half_broken),
        "--port",
        "0",
        "--grpc-port",
        "0",
        env=os.environ | {"SLUICE_MODELS_STRICT": "true"},
    )
    assert ended.returncode == 1
    assert "linear/2: has no model.onnx" in ended.stderr
    assert "weightless/1/model.onnx: its weights are to be in 'gone.bin'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_profile_names_what_is_broken_and_measures_the_others(half_broken: Path) -> None:
    shutil.rmtree(half_broken / "digits")
    ended = alone(str(SLUICE), "profile", str(half_broken))
    assert ended.returncode == 1
    assert "linear, version 1" in ended.stdout
    for fault in ("linear/2: has no model.onnx", "'gone.bin'", "bad/1/model.onnx: "):
        assert fault in ended.stderr


def test_weights_outside_the_repository_are_served_where_they_are_allowed(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    put_weights(tmp_path / "made", 2)
    (tmp_path / "shared").mkdir()
    (tmp_path / "made/w.bin").rename(tmp_path / "shared/w.bin")
    models.place(models.external_weights("../../../shared/w.bin"), root / "m/1")
    models.place(models.external_weights("../w.bin"), root / "n/1")
    shutil.copy(tmp_path / "shared/w.bin", root / "n/w.bin")
    with serving(root) as server:
        assert (ask(server, "m"), ask(server, "n")) == (503, 2)
        (told,) = server.client.get("/v2/health").json()["broken"]
        assert f"which is {tmp_path}/shared/w.bin, outside of {root}" in told["reason"]
    with serving(root, env=os.environ | {"SLUICE_MODELS_ALLOW": f"{tmp_path}/other:{tmp_path}/shared"}) as server:
        assert (ask(server, "m"), ask(server, "n")) == (2, 2)


@needs_root
@pytest.mark.parametrize("place", ["lost+found", "linear/lost+found", "linear/1/lost+found", "linear/1/sub/.x"])
def test_folders_that_are_closed_are_passed_over(tmp_path: Path, place: str) -> None:
    root = tmp_path / "models"
    shutil.copytree(EXAMPLES, root)
    (root / place).mkdir(parents=True)
    (root / place).chmod(0)
    log = tmp_path / "log"
    with serving(root, "--log-format", "json", prefix=POWERLESS, log=log) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
        assert server.client.get("/v2/health/ready").json() == {"ready": True}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (told,) = [line["what"] for line in lines if line["event"] == NO_MODEL]
    assert told.startswith(f"{root / place}: ")


def test_models_that_hang_or_have_pipes_for_settings_keep_no_other_from_being_served(tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(EXAMPLES, root)
    model = onnx.load_from_string(models.loop())
    del model.graph.input[1]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([[2**62]]), "steps"))
    models.place(model.SerializeToString(), root / "endless/1")
    (root / "endless/model.toml").write_text("workers.load_timeout_s = 1\n")
    shutil.copytree(EXAMPLES / "linear", root / "piped")
    os.mkfifo(root / "piped/model.toml")
    with serving(root) as server:
        assert server.infer("linear", LINEAR).status_code == 200
        told = {each["name"]: each["reason"] for each in server.client.get("/v2/health").json()["broken"]}
    assert told.keys() == {"endless", "piped"}
    assert told["endless"].endswith("the worker did not load and warm up within 1 s")
    assert told["piped"].endswith("model.toml: is a pipe, a socket or a device; put a file there")


@needs_root
@pytest.mark.parametrize("place", ["linear", "linear/1", "linear/1/model.onnx", "linear/model.toml"])
def test_models_that_are_closed_are_broken(tmp_path: Path, place: str) -> None:
    root = tmp_path / "models"
    shutil.copytree(EXAMPLES, root)
    (root / "linear/model.toml").touch()
    (root / place).chmod(0)
    with serving(root, prefix=POWERLESS) as server:
        assert server.infer("linear", LINEAR).status_code == 503
        (told,) = server.client.get("/v2/health").json()["broken"]
        assert told["name"] == "linear"
        assert told["reason"].endswith("cannot be read: Permission denied")
