"""Repositories as they are in the field, each with a real `sluice serve`."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests import models
from tests.integration.server import PATIENCE_S, SluiceProcess, serving, v2, with_grpc
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

LINEAR = v2("x", [1, 1], [3])
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
