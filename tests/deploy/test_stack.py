"""The images and the stack of docker-compose.yml, built and run: `make test-stack`.

Needs root, and Debian's packages or commands for the engine; is skipped with a reason elsewhere. The gateway's image
and the load tests' are built as they are; where Redis and Prometheus come from their makers' images, here they
come from Debian's packages, by the same names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.base_images import base_images
from tests.deploy.docker_engine import TOOLS, Engine, building, engine_folder, running
from tests.integration.test_tls import Authority
from tests.system_packages import command

ROOT = Path(__file__).parents[2]
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GATEWAY, PROMETHEUS = "http://127.0.0.1:8000", "http://127.0.0.1:9090"
BUILD_S = 600
PATIENCE_S = 90

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]


class Stack:
    """What docker-compose.yml describes, and questions to it from beside it."""

    def __init__(self, engine: Engine, files: Sequence[str]) -> None:
        self.engine = engine
        self._files = tuple(word for file in files for word in ("-f", file))

    def compose(self, *arguments: str, within_s: float = 240) -> str:
        command = ("docker-compose", "-p", "stack", *self._files, *arguments)
        return self.engine.run(*command, within_s=within_s, cwd=ROOT)

    def ask(self, url: str, *options: str) -> tuple[str, str]:
        """The head and the body of an answer, which must be a good one."""
        answer = self.engine.run("curl", "-sS", "--fail-with-body", "-i", "--max-time", "20", *options, url)
        head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
        return head.lower(), body

    def predict(self, number: float) -> str:
        """What `X-Cache` says of a row of `linear`, whose answer must be right."""
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
        head, body = self.ask(f"{GATEWAY}/v2/models/linear/infer", "-d", json.dumps({"inputs": [tensor]}))
        assert json.loads(body)["outputs"][0]["data"] == [2 * number - 1]
        return next(line.removeprefix("x-cache: ") for line in head.splitlines() if line.startswith("x-cache: "))

    def query(self, expression: str) -> list[float]:
        """The values that Prometheus has for it now."""
        _, body = self.ask(f"{PROMETHEUS}/api/v1/query", "-G", "--data-urlencode", f"query={expression}")
        return [float(series["value"][1]) for series in json.loads(body)["data"]["result"]]

    def in_redis(self) -> int:
        return int(self.compose("exec", "-T", "redis", "redis-cli", "dbsize").split()[-1])

    def state(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "-q", service).strip()
        state: dict[str, Any] = json.loads(self.engine.docker("inspect", "--format", "{{json .State}}", container))
        return state


def until(what: str, holds: Callable[[], bool]) -> None:
    """Return when it holds. Fails after `PATIENCE_S`."""
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until_s, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The data of an engine that has all images."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("the stack needs Linux, and root to make a base image and run an engine of its own")
    for name, package in TOOLS.items():
        command(name, package)
    try:
        made = base_images()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no base image could be made of Debian's packages: {error}")
    services = STACK["services"]
    with engine_folder() as folder:
        with building(folder) as engine:
            engine.docker("import", str(made.python), "python:3.11-slim")
            engine.docker("import", str(made.services), services["redis"]["image"])
            started = ["--change", 'ENTRYPOINT ["prometheus"]', "--change", "USER nobody"]
            engine.docker("import", *started, str(made.services), services["prometheus"]["image"])
            for image, file in (("sluice", "Dockerfile"), ("sluice-load", "loadtests/Dockerfile")):
                build = ("build", "--network", "host", "-t", image, "-f", file, ".")
                engine.docker(*build, within_s=BUILD_S, cwd=ROOT)
        yield folder


@contextmanager
def stack_up(engine: Engine, *files: str) -> Iterator[Stack]:
    stack = Stack(engine, ("docker-compose.yml", *files))
    try:
        stack.compose("up", "-d", "--no-build", "gateway", "redis", "prometheus")
        yield stack
    except BaseException:
        print(stack.compose("logs", "--no-color", "--tail", "60"))
        raise
    finally:
        stack.compose("down", "-v", "--timeout", "5")


def test_the_stack_predicts_caches_is_watched_survives_its_redis_and_stops_cleanly(folder: Path) -> None:
    with running(folder) as engine, stack_up(engine) as stack:
        it_is_as_small_as_it_says(engine)
        until("the gateway is healthy", lambda: stack.state("gateway")["Health"]["Status"] == "healthy")
        assert stack.predict(3).startswith("miss")
        assert stack.predict(3).startswith("hit")

        # The next gateway has nothing in its memory, and knows the row from Redis.
        until("the row is in Redis", lambda: stack.in_redis() > 0)
        stack.compose("restart", "gateway")
        until("the gateway is healthy", lambda: stack.state("gateway")["Health"]["Status"] == "healthy")
        assert stack.predict(3).startswith("hit")

        until("Prometheus scrapes the gateway", lambda: stack.query('up{job="sluice"}') == [1.0])
        until("it has seen the call", lambda: sum(stack.query("sluice_requests_total")) >= 1)
        groups = json.loads(stack.ask(f"{PROMETHEUS}/api/v1/rules")[1])["data"]["groups"]
        assert {Path(group["file"]).name for group in groups} == {"recording.yml", "alerts.yml"}
        assert all(rule["health"] != "err" for group in groups for rule in group["rules"])

        stack.compose("kill", "redis")
        assert stack.predict(3).startswith("hit")
        assert stack.predict(4).startswith("miss")
        assert stack.predict(4).startswith("hit")

        gate = stack.compose(
            *("run", "--rm", "--no-deps", "-T", "locust", "--headless", "--only-summary", "--reset-stats"),
            *("--peak-users", "4", "--duration-s", "5", "--objective-ms", "2000"),
        )
        assert "gate: PASS" in gate

        stack.compose("stop")
        state = stack.state("gateway")
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_with_a_certificate_all_speak_https(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    mounted = folder / "tls"  # where user 10001 may look
    mounted.mkdir()
    for file, name in zip(authority.issue("server"), ("cert.pem", "key.pem"), strict=True):
        (mounted / name).write_bytes(file.read_bytes())
        (mounted / name).chmod(0o444)
    folder.chmod(0o755)
    mounted.chmod(0o755)
    monkeypatch.setenv("TLS_FOLDER", str(mounted))
    with running(folder) as engine, stack_up(engine, "deploy/compose/tls.yml") as stack:
        until("the gateway is healthy", lambda: stack.state("gateway")["Health"]["Status"] == "healthy")
        secure = GATEWAY.replace("http", "https")
        assert "200 ok" in stack.ask(f"{secure}/v2/health/ready", "--cacert", str(authority.file))[0]
        until("Prometheus scrapes the gateway", lambda: stack.query('up{job="sluice"}') == [1.0])
        load = ("--headless", "--only-summary", "--peak-users", "2", "--duration-s", "2")
        assert "gate: PASS" in stack.compose("run", "--rm", "--no-deps", "-T", "locust", *load)


def it_is_as_small_as_it_says(engine: Engine) -> None:
    """Not root, nothing to compile with, and nothing that writes to its root."""
    ask = ["run", "--rm", "--read-only", "--network", "none", "--entrypoint"]
    assert engine.docker(*ask, "id", "sluice", "-u") == "10001"
    for tool in ("cc", "gcc", "g++", "make"):
        assert engine.docker(*ask, "sh", "sluice", "-c", f"command -v {tool} || echo none") == "none"
    assert engine.docker(*ask, "sh", "sluice", "-c", "touch /opt/x /x 2>/dev/null || echo refused") == "refused"
