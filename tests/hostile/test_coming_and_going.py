"""What is said where nobody should hear it, and how a gateway begins and ends while it is pushed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.hostile.faults import shut
from tests.hostile.frames import GOAWAY, KNOWN, OPENING, PATHS, call, frame, headers, message, request_fields
from tests.hostile.h2_client import H2Client
from tests.hostile.house import environment, repository
from tests.hostile.target import (
    LINEAR,
    answered,
    attacked,
    fresh_grpc,
    fresh_http,
)
from tests.hostile.watch import log_faults
from tests.integration.server import PATIENCE_S, SLUICE, serving, v2
from tests.redis_server import free_port

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(300)]


def test_nobody_else_writes_the_log(tmp_path: Path) -> None:
    """Text of a caller's choice in GOAWAY, in paths, in headers and in bodies is never a line of its own."""
    forged = '{"event": "forged", "level": "error"}'
    with attacked(tmp_path) as target:
        for spoken in (f"\n{forged}\n", f"\r\n{forged}\r\n", f"\u2028{forged}\u0085{forged}"):
            content = frame(GOAWAY, 0, 0, bytes(8) + spoken.encode())
            with socket.create_connection(("127.0.0.1", target.server.grpc_port)) as client:
                client.sendall(OPENING + call(1, KNOWN) + content)
                client.settimeout(1)
                with suppress(OSError):
                    while client.recv(1 << 16):
                        pass
            path = f"/v2/models/{quote(spoken)}"
            with suppress(httpx.HTTPError):
                target.server.client.post(f"{path}/infer", json={"inputs": [], "id": spoken})
            with suppress(httpx.HTTPError):
                body = {"model": spoken, "input": "x"}
                target.server.client.post("/v1/embeddings", json=body, headers={"X-Request-Id": forged})
        target.unharmed()
        assert fresh_grpc(target.server)
        target.server.stop()
        assert not log_faults(target.log)


def test_no_credential_and_no_body_is_logged(tmp_path: Path) -> None:
    """Not on the way that goes well, not on one that goes wrong, not in a traceback, a metric or a page."""
    secret, spoken = "sesame-7f3c", "meine-meinung-91aa"
    bodies: list[tuple[str, object]] = [
        ("/v2/models/linear/infer", {**LINEAR, "parameters": {"a": 2**70, "b": spoken}}),
        ("/v2/models/linear/infer", {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [spoken]}]}),
        ("/v2/models/strings/infer", v2("x", [1], [spoken], "BYTES")),
        ("/v1/models/strings:predict", {"instances": [spoken], "signature_name": spoken}),
        ("/v1/models/linear:predict", {"inputs": {spoken: 2**70}}),
        ("/predictions/strings", [spoken, 2**70]),
        ("/invocations", {"inputs": []}),
        ("/v1/embeddings", {"model": "texts", "input": f"{spoken} " * 400}),
        ("/v1/embeddings", {"model": "texts", "input": [2**70, spoken]}),
        ("/v2/repository/index", {"ready": spoken}),
        ("/v2/logging", {"log_verbose_level": 2**70, "log_file": spoken}),
        ("/v2/repository/models/linear/load", {"parameters": {"config": spoken}}),
    ]
    with attacked(tmp_path, "strings", "texts", SLUICE_LOGS_LEVEL="debug") as target:
        marked = {"Authorization": f"Bearer {secret}", "Cookie": f"session={secret}", "X-Api-Key": secret}
        with httpx.Client(base_url=target.server.url, timeout=PATIENCE_S, headers=marked) as client:
            for path, body in bodies:
                for accept in ("application/json", "text/csv", "application/x-npy"):
                    assert client.post(path, json=body, headers={"Accept": accept}).status_code < 500, path
            for path in ("/v2/health", "/metrics", "/openapi.json", "/admin/cache", "/v2/models/stats"):
                page = client.get(path, params={"token": secret}).text
                assert secret not in page, path
        for target_line in (
            b"GET http://a HTTP/1.1",
            b"GET http://a/v2 HTTP/1.1",
            b"GET * HTTP/1.1",
            b"GET /\xff HTTP/1.1",
        ):
            with socket.create_connection(("127.0.0.1", target.server.port), timeout=10) as raw:
                raw.sendall(target_line + f"\r\nHost: a\r\nAuthorization: Bearer {secret}\r\n\r\n".encode())
                raw.shutdown(socket.SHUT_WR)
                assert not raw.recv(1000).startswith(b"HTTP/1.1 5"), target_line
        fields = [
            *request_fields(PATHS[0]),
            (b"authorization", f"Bearer {secret}".encode()),
            (b"content-encoding", b"br"),
        ]
        with H2Client(target.server.grpc_port) as grpc:
            grpc.raw(headers(fields, 1) + frame(0, 1, 1, message(KNOWN)))
            grpc.read(1)
        assert answered(lambda: fresh_grpc(target.server), 10)
        target.server.stop()
        log = target.log.read_text()
    for marker in (secret, spoken):
        assert marker not in log, re.findall(f".{{0,200}}{marker}.{{0,80}}", log)[:2]
    assert not log_faults(target.log)


def test_sigterm_in_a_storm_of_new_connections(tmp_path: Path) -> None:
    """Whoever connected has an answer: nobody is reset after the kernel let it in."""
    outcomes: Counter[str] = Counter()
    over = threading.Event()
    body = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[3]}]}'
    request = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def caller(port: int) -> None:
        while not over.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", port), timeout=20)
            except OSError:
                outcomes["refused"] += 1
                over.wait(0.02)
                continue
            with client:
                try:
                    client.sendall(request)
                    answer = client.recv(1 << 16)
                except OSError as error:
                    outcomes[type(error).__name__] += 1
                else:
                    outcomes[answer[9:12].decode() or "closed without an answer"] += 1

    with serving(repository(tmp_path / "models", "linear"), env=environment(), log=tmp_path / "log") as server:
        threads = [threading.Thread(target=caller, args=(server.port,)) for _ in range(24)]
        for thread in threads:
            thread.start()
        while outcomes["200"] < 2000:
            time.sleep(0.02)
        assert server.stop() == 0
        over.set()
        for thread in threads:
            thread.join()
    lost = {name: count for name, count in outcomes.items() if name not in {"200", "503", "refused"}}
    assert not lost, (lost, outcomes)
    assert not log_faults(tmp_path / "log")


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_door_that_is_shut_is_open_again(tmp_path: Path, door: str) -> None:
    """Time and again: new callers come in soon, and those who were in notice nothing."""
    with attacked(tmp_path) as target:
        server = target.server
        port, fresh = (server.port, fresh_http) if door == "http" else (server.grpc_port, fresh_grpc)
        for _ in range(5):
            shut(server.process.pid, port)
            assert answered(lambda: fresh(server), 5), "nobody comes in any more"
        target.unharmed()


def test_a_reader_of_the_banner_that_has_gone(tmp_path: Path) -> None:
    """As in `sluice serve models | head -0`: it serves."""
    port = free_port()
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        str(SLUICE),
        "serve",
        str(repository(tmp_path / "models", "linear")),
        "--port",
        str(port),
        "--grpc-port",
        "0",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=writing, stderr=log, env=environment())
    os.close(writing)
    try:
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        assert answered(lambda: httpx.get(url, timeout=5).status_code == 200, 30), (tmp_path / "log").read_text()[
            -2000:
        ]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    assert not log_faults(tmp_path / "log")


def test_one_port_for_two_doors(tmp_path: Path) -> None:
    """It is told in one line what is wrong, not in a traceback."""
    port = str(free_port())
    command = [
        str(SLUICE),
        "serve",
        str(repository(tmp_path / "models", "linear")),
        "--port",
        port,
        "--grpc-port",
        port,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False)
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert port in run.stderr
