"""A real `sluice serve` process, started for a test and ended by its pid."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

SLUICE = Path(sys.executable).with_name("sluice")
PATIENCE_S = 60.0


ASK_THE_MODEL = {"Cache-Control": "no-store"}
"""Most tests are about what happens behind the cache, and many send the same row again and again."""


class SluiceProcess:
    """A gateway that is ready, and a client for it that passes the cache by. `grpc_port` is 0 where there is none."""

    def __init__(
        self, process: subprocess.Popen[str], url: str, verify: ssl.SSLContext | Literal[False], grpc_port: int = 0
    ) -> None:
        self.process = process
        self.url = url
        self.grpc_port = grpc_port
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S, verify=verify, headers=ASK_THE_MODEL)

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 0

    def infer(self, model: str, body: Mapping[str, Any]) -> httpx.Response:
        return self.client.post(f"/v2/models/{model}/infer", json=body)

    def outputs(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.infer(model, body)
        assert answer.status_code == 200, answer.text
        return {output["name"]: output["data"] for output in answer.json()["outputs"]}

    def workers(self) -> list[psutil.Process]:
        """The processes that run models; those that read large bodies are others."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if _is_worker(child)]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series, summed over the labels that are not given."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', match[1] or "")).items():
                total += float(match[2])
        return total

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class PlainClient:
    """One connection that stays open. A call costs a fifth of one with httpx, for tests that make thousands.

    To be closed. A call fails with OSError or http.client.HTTPException where the connection has ended.
    """

    def __init__(self, server: SluiceProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)

    def infer(self, model: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Headers are `ASK_THE_MODEL` where none are given."""
        sent = json.dumps(body).encode()
        return self.post(f"/v2/models/{model}/infer", sent, ASK_THE_MODEL if headers is None else headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def close(self) -> None:
        self._connection.close()


def _is_worker(child: psutil.Process) -> bool:
    """Whether it lives and is none of the processes that read large bodies."""
    try:
        return child.is_running() and "sluice.gateway.reading" not in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it ends at this moment
        return False


@contextmanager
def serving(
    models: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    verify: ssl.SSLContext | Literal[False] = False,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[SluiceProcess]:
    """`sluice serve models --port 0 …`, from its banner until the test is done with it.

    Without gRPC, unless `options` have a `--grpc-port`. `verify` is for a server with TLS: a context that trusts it, or
    False for a client that trusts everybody (httpx would read all authorities of the system, for plain HTTP, too).
    """
    options = ("--grpc-port", "0", *options)
    grpc_port = int(options[len(options) - options[::-1].index("--grpc-port")])
    command: Sequence[str] = [*prefix, str(SLUICE), "serve", str(models), "--port", "0", *options]
    with open(log, "w") if log else open("/dev/null", "w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=None if env is None else dict(env), cwd=cwd
        )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        match = re.search(r"ready at (\S+)", first)
        assert match, f"sluice did not become ready: {first!r}, status {process.poll()}"
        server = SluiceProcess(process, match[1], verify, grpc_port)
        with server.client:
            yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def with_grpc() -> Sequence[str]:
    """Options of a server with gRPC: on a port that was free a moment ago, since 0 means none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return "--grpc-port", str(taken.getsockname()[1])


def v2(name: str, shape: Sequence[int], data: Sequence[Any], datatype: str = "FP32") -> dict[str, Any]:
    """A V2 request body with one input."""
    return {"inputs": [{"name": name, "shape": list(shape), "datatype": datatype, "data": list(data)}]}
