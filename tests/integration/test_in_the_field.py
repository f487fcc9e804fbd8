"""Repositories, folders and environments as they are in the field, each with a real `sluice serve`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import models
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving, v2, with_grpc
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

LINEAR = v2("x", [1, 1], [3])

NO_MODEL = "the repository has something that is no model"
"""The log line about what is passed over."""

POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
"""Runs a command as a root who may look into closed folders no more than others."""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="closes folders to itself, for which it needs root"
)


def put_weights(folder: Path, one: float, location: str = "w.bin") -> None:
    """A version that gives `one` for 1, from weights in a file of that name."""
    models.place(models.external_weights(location), folder)
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    (folder / location).write_bytes(np.array([one, 0], np.float32).tobytes())


def ask(server: SluiceProcess, model: str = "m", version: int = 1, cache_control: str = "no-store") -> Any:
    """The first output of a model of `put_weights` for 1, or the status of a refusal."""
    answer = server.client.post(
        f"/v2/models/{model}/versions/{version}/infer",
        json=v2("x", [1, 1], [1]),
        headers={"Cache-Control": cache_control, "X-Request-Timeout-Ms": "1000"},
    )
    return answer.json()["outputs"][0]["data"][0] if answer.status_code == 200 else answer.status_code


def are_kept(redis: RedisServer, rows: int) -> bool:
    return len(redis.client.keys("*:*:*")) >= rows


def alone(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)


# Digests.


@pytest.mark.parametrize("location", ["w.bin", ".w.bin", ".hidden/w.bin", "linked/w.bin", "../shared{version}/w.bin"])
def test_no_version_is_answered_with_what_another_one_said(tmp_path: Path, location: str) -> None:
    """In memory, after a reload, and through a Redis that outlives the gateway."""
    root, m = tmp_path / "repository", tmp_path / "repository" / "m"

    def write(version: int, factor: float) -> None:
        folder, name = m / str(version), location.format(version=version)
        if location.startswith("linked"):
            target = folder / f".{factor:g}"
            put_weights(target, factor)
            with suppress(FileNotFoundError):
                (folder / "linked").unlink()
            (folder / "linked").symlink_to(target.name)
            models.place(models.external_weights(name), folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            put_weights(tmp_path / "made", factor, "w.bin")
            models.place(models.external_weights(name), folder)
            (folder / name).parent.mkdir(exist_ok=True)
            (tmp_path / "made/w.bin").rename(folder / name)

    write(1, 2)
    write(2, 3)
    with redis_server(tmp_path / "redis") as redis:
        cache = {"REDIS_URL": redis.url, "REDIS_TIMEOUT_MS": "5000", "REDIS_CONNECT_TIMEOUT_MS": "5000"}
        env = os.environ | {f"SLUICE_CACHE_{key}": value for key, value in cache.items()}
        env["SLUICE_SERVER_MODEL_CONTROL"] = "true"
        with serving(root, env=env) as server:
            assert [ask(server, version=version, cache_control="") for version in (1, 2, 1, 2)] == [2, 3, 2, 3]
            write(2, 5)
            assert server.client.post("/v2/repository/models/m/load").status_code == 200
            assert [ask(server, version=version, cache_control="") for version in (1, 2)] == [2, 5]
            eventually(lambda: len(redis.client.keys("*:*:*")) >= 3)
        write(1, 7)
        with serving(root, env=env) as server:
            assert [ask(server, version=version, cache_control="") for version in (1, 2)] == [7, 5]
            assert server.metric("sluice_cache_hits_total", model="m", tier="redis", version="2") == 1


@pytest.mark.parametrize("toml", ['[batching]\nbatched = "unchecked"\n', "[padding.inputs.x]\nbuckets = [2]\n"])
def test_what_else_an_answer_depends_on_tells_it_apart(tmp_path: Path, toml: str) -> None:
    """What is said in model.toml is no part of the files, and another gateway with the same Redis may say else."""
    for folder, text in (("a", ""), ("b", toml)):
        models.place(models.any_width(), tmp_path / folder / "m/1")
        (tmp_path / folder / "m/model.toml").write_text(text)
    with redis_server(tmp_path / "redis") as redis:
        cache = {"REDIS_URL": redis.url, "REDIS_TIMEOUT_MS": "5000", "REDIS_CONNECT_TIMEOUT_MS": "5000"}
        env = os.environ | {f"SLUICE_CACHE_{key}": value for key, value in cache.items()}
        heard = []
        for folder, kept in (("a", 1), ("b", 2), ("a", 2)):
            with serving(tmp_path / folder, env=env) as server:
                body = v2("x", [1, 2], [1, 2])
                answer = server.client.post("/v2/models/m/infer", json=body, headers={"Cache-Control": "max-age=0"})
                assert answer.json()["outputs"][0]["data"] == [3]
                heard.append(answer.headers["x-cache"])
                eventually(partial(are_kept, redis, kept))
        assert heard == ["miss; rows=0/1", "miss; rows=0/1", "hit; rows=1/1"]


def test_weights_that_are_written_into_are_never_served_as_the_version(tmp_path: Path) -> None:
    put_weights(tmp_path / "m/1", 2)
    log = tmp_path / "log"
    with serving(tmp_path, "--log-format", "json", log=log) as server:
        assert ask(server, cache_control="") == 2
        (tmp_path / "m/1/w.bin").write_bytes(np.array([3, 0], np.float32).tobytes())
        eventually(lambda: not server.workers())
        eventually(lambda: "could not be replaced" in log.read_text())
        assert ask(server, cache_control="") in (503, 504), "what was kept is thrown away"
        assert server.client.get("/v2/health/ready").status_code == 503
    assert "was written into while it was mapped" in log.read_text()


# Links, stores and volumes.


def test_a_content_addressed_store_is_served(tmp_path: Path) -> None:
    blobs, root, snapshot = tmp_path / "blobs", tmp_path / "repository", tmp_path / "snapshots/rev/onnx"
    put_weights(blobs, 2, "model.onnx_data")
    (blobs / "model.onnx").rename(blobs / "aaa")
    (blobs / "model.onnx_data").rename(blobs / "bbb")
    for folder in (root / "m/1", snapshot):
        folder.mkdir(parents=True)
        (folder / "model.onnx").symlink_to(os.path.relpath(blobs / "aaa", folder))
        (folder / "model.onnx_data").symlink_to(os.path.relpath(blobs / "bbb", folder))
    for path, name in ((root, "m"), (snapshot / "model.onnx", "model"), (root / "m", "m")):
        with serving(path) as server:
            assert ask(server, name) == 2


@needs_root
def test_a_repository_in_another_process_s_root_is_served(tmp_path: Path) -> None:
    """As KServe's modelcar has it: the path leads through procfs into a mount that this process does not have."""
    put_weights(tmp_path / "made/1", 2)
    car = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {tmp_path} && echo there && read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert car.stdin is not None
        assert car.stdout is not None
        if car.stdout.readline() != "there\n":
            pytest.skip("may not mount here")
        root = Path(f"/proc/{car.pid}/root{tmp_path}/models")
        shutil.copytree(tmp_path / "made", root / "m")
        assert not (tmp_path / "models").exists()
        with serving(root) as server:
            assert ask(server) == 2
            server.workers()[0].kill()
            eventually(lambda: server.metric("sluice_worker_restarts_total") == 1)
            eventually(lambda: ask(server) == 2)
        (tmp_path / "mnt").symlink_to(root)
        with serving(tmp_path / "mnt") as server:
            assert ask(server) == 2
        with serving(root / "m/1/model.onnx") as server:
            assert ask(server, "model") == 2
    finally:
        car.kill()
        car.communicate()


def test_a_swapped_volume_is_the_same_version_as_long_as_its_bytes_are(tmp_path: Path) -> None:
    """A ConfigMap mounted as a version: with every write to it, all its files are new ones."""
    folder = tmp_path / "m/1"
    put_weights(folder / "..1", 2)
    (folder / "..data").symlink_to("..1")
    for name in ("model.onnx", "w.bin"):
        (folder / name).symlink_to(f"..data/{name}")
    with serving(tmp_path, env=os.environ | {"SLUICE_SERVER_MODEL_CONTROL": "true"}) as server:
        (worker, *_) = server.workers()
        shutil.copytree(folder / "..1", folder / "..2", copy_function=shutil.copyfile)
        (folder / "..new").symlink_to("..2")
        (folder / "..new").rename(folder / "..data")
        shutil.rmtree(folder / "..1")
        for each in server.workers():
            each.kill()
        eventually(lambda: ask(server) == 2)
        pids = {each.pid for each in server.workers()}
        assert worker.pid not in pids
        assert server.client.post("/v2/repository/models/m/load").status_code == 200
        assert pids <= {each.pid for each in server.workers()}, "the same version goes on"


def test_a_version_that_gets_no_worker_is_told_by_liveness(tmp_path: Path) -> None:
    put_weights(tmp_path / "m/1", 2)
    models.place(models.linear(), tmp_path / "linear/1")
    env = os.environ | {"SLUICE_WORKERS_REPLACE_TIMEOUT_S": "0.3"}
    with serving(tmp_path, *with_grpc(), env=env) as server:  # noqa: SIM117 - the address is the server's
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert client.is_server_live()
            assert server.client.get("/v2/health/live").json() == {"live": True}
            kept = (tmp_path / "m/1/w.bin").rename(tmp_path / "kept")
            (tmp_path / "m/1/w.bin").write_bytes(np.array([3, 0], np.float32).tobytes())
            for worker in server.workers():
                worker.kill()
            eventually(lambda: server.client.get("/v2/health/live").status_code == 503)
            told = server.client.get("/v2/health/live").json()
            assert told == {"live": False, "reason": "no worker of m/1 could be started for too long; the log says why"}
            assert not client.is_server_live()
            assert server.client.get("/v2/health").json()["live"] is False
            eventually(lambda: server.infer("linear", LINEAR).status_code == 200)
            kept.rename(tmp_path / "m/1/w.bin")
            eventually(lambda: server.client.get("/v2/health/live").status_code == 200)
            assert ask(server) == 2


# What is broken, and what is no model.


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


# Where it is started.


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "sluice.toml").write_text("[server]\nport = 1\n")
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@needs_root
def test_a_working_folder_that_is_closed_has_no_settings(closed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, prefix=POWERLESS, cwd=closed, env={"PATH": os.environ["PATH"]}, log=log) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
    assert f"Warning: {closed}/sluice.toml cannot be looked for: Permission denied" in log.read_text()


def test_a_working_folder_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    leaves = ("sh", "-c", 'rmdir ../gone && exec "$@"', "sh")
    with serving(EXAMPLES, prefix=leaves, cwd=tmp_path / "gone") as server:
        assert not (tmp_path / "gone").exists()
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}


@needs_root
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--config", "{closed}/sluice.toml"],
            "--config: {closed}/sluice.toml cannot be looked for: Permission denied",
        ),
        (["--config", "{open}/shut.toml"], "Path '{open}/shut.toml' is not readable"),
        (["--config", "{open}"], "{open}: cannot be read: Is a directory"),
        (
            ["--tls-cert", "{closed}/c.pem", "--tls-key", "{closed}/k.pem"],
            "cannot be looked at: Permission denied",
        ),
        (["{closed}/models"], "{closed}/models: cannot be read: Permission denied"),
        (["{closed}"], "Path '{closed}' is not readable"),
    ],
)
def test_what_may_not_be_read_is_said_plainly(closed: Path, tmp_path: Path, options: list[str], expected: str) -> None:
    (tmp_path / "shut.toml").touch(0)
    places = {"closed": str(closed), "open": str(tmp_path)}
    arguments = [option.format(**places) for option in options]
    if arguments[0].startswith("--"):
        arguments.insert(0, str(EXAMPLES))
    ended = alone(*POWERLESS, str(SLUICE), "serve", *arguments, "--port", "0", "--grpc-port", "0")
    assert ended.returncode in (1, 2)
    assert expected.format(**places) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_matter(tmp_path: Path, closing: str) -> None:
    ports = with_grpc(), with_grpc()
    port = ports[0][1]
    command = f"exec {SLUICE} serve {EXAMPLES} --port {port} --grpc-port 0 {closing}"
    process = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return client.post("/v2/models/linear/infer", json=LINEAR).status_code == 200
                except httpx.TransportError:
                    return False

            eventually(answers)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


SHADOWS = ("inference", "cache", "gateway", "batching", "loadgen")


@pytest.mark.parametrize("kind", ["package", "module", "broken"])
@pytest.mark.parametrize("where", ["PYTHONPATH", "working folder"])
def test_foreign_packages_of_the_same_names_are_not_ours(tmp_path: Path, where: str, kind: str) -> None:
    for name in SHADOWS:
        if kind == "module":
            (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(
                "VALUE = 1\n" if kind == "package" else "raise SystemExit(7)\n"
            )
    env = os.environ | ({"PYTHONPATH": str(tmp_path)} if where == "PYTHONPATH" else {})
    with serving(EXAMPLES, env=env, cwd=tmp_path) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
    ended = alone(sys.executable, "-m", "sluice", "--version", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"sluice, version \d", ended.stdout)
