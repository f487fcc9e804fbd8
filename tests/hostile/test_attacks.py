"""Attacks that no fuzzer comes upon: each holds on to something that everybody needs, or waits where it hurts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import psutil
import pytest

from tests.hostile.control import Control, control
from tests.hostile.frames import GOAWAY, KNOWN, OPENING, PATHS, call, frame, headers, message, request_fields
from tests.hostile.h2_client import H2Client
from tests.hostile.house import READ_TIMEOUT_S, environment, repository
from tests.hostile.watch import log_faults
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving, v2, with_grpc
from tests.redis_server import free_port

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(300)]

LINEAR = v2("x", [1, 1], [3])
MIB = 1 << 20
FEW_FILES = ("sh", "-c", 'ulimit -n 1024; exec "$0" "$@"')
ENDED_S = READ_TIMEOUT_S + 20.0
"""A connection that says nothing, or not enough, is ended within this time."""


CALL_ENDED = b"grpc-status"
"""What stands in the trailers of a call that is over."""


class Target(NamedTuple):
    """A gateway under attack, its log, and an innocent caller."""

    server: SluiceProcess
    log: Path
    innocent: Control

    def resident_bytes(self) -> float:
        """Of the gateway and of its children that are not workers."""
        process = psutil.Process(self.server.process.pid)
        readers = [
            each for each in process.children() if not any("inference.worker" in part for part in each.cmdline())
        ]
        return sum([each.memory_info().rss for each in (process, *readers)])

    def unharmed(self, longest_ms: float = 5000.0) -> None:
        """The innocent caller had its answers all along."""
        for door, report in self.innocent.report().items():
            assert not report.wrong, (door, report.faults)
            assert not report.failed, (door, report.sent, report.faults)
            assert report.max_ms < longest_ms, (door, report.max_ms)


@contextmanager
def attacked(folder: Path, *names: str, prefix: tuple[str, ...] = (), **settings: str) -> Iterator[Target]:
    models = repository(folder / "models", "linear", *names)
    with (
        serving(models, *with_grpc(), env=environment(**settings), log=folder / "log", prefix=prefix) as server,
        control(server.port, server.grpc_port) as innocent,
    ):
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
        while any(not report.sent for report in innocent.report().values()):
            time.sleep(0.05)
        yield Target(server, folder / "log", innocent)


def answered(ask: Callable[[], bool], within_s: float) -> bool:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        with suppress(OSError, httpx.HTTPError):
            if ask():
                return True
        time.sleep(0.05)
    return False


def fresh_http(server: SluiceProcess) -> bool:
    """Whether a caller who comes now is answered."""
    with httpx.Client(base_url=server.url, timeout=5) as client:
        return client.post("/v2/models/linear/infer", json=LINEAR).status_code == 200


def fresh_grpc(server: SluiceProcess) -> bool:
    with H2Client(server.grpc_port) as client:
        return len(client.call(1, KNOWN)) > 5


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_thousand_connections_that_say_nothing(tmp_path: Path, door: str) -> None:
    """With 1,024 open files allowed: other callers come in at both doors, and a worker that dies is replaced."""
    with attacked(tmp_path, prefix=FEW_FILES) as target, ExitStack() as stack:
        server = target.server
        port = server.port if door == "http" else server.grpc_port
        opened: list[socket.socket] = []
        for _ in range(1000):
            with suppress(OSError):
                opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)))
        worker = next(each for each in server.workers() if any("inference.worker" in part for part in each.cmdline()))
        worker.kill()
        assert answered(lambda: fresh_http(server), ENDED_S), "no new caller is answered over HTTP"
        assert answered(lambda: fresh_grpc(server), ENDED_S), "no new caller is answered over gRPC"
        ended = [_ended(each, time.monotonic() + ENDED_S) for each in opened]
        assert all(ended), f"{ended.count(False)} of {len(ended)} silent connections stay for ever"
        target.unharmed(ENDED_S * 1e3)
        assert server.metric("sluice_workers", model="linear") == 1
        assert not log_faults(target.log)


def test_half_open_connections_at_grpcs_door(tmp_path: Path) -> None:
    """Of every kind: each is ended in time, though it has begun to speak; or the call is, where it is one."""
    starts = {
        "a part of the preface": OPENING[:10],
        "a preface without settings": OPENING[:24],
        "the head of a frame": OPENING + frame(0, 0, 1, b"", 5000),
        "headers that do not end": OPENING + headers(request_fields(PATHS[0]), 1, 0),
        "a call without its message": OPENING + headers(request_fields(PATHS[0]), 1),
        "a part of a message": OPENING + headers(request_fields(PATHS[0]), 1) + frame(0, 0, 1, message(KNOWN)[:20]),
    }
    with attacked(tmp_path) as target, ExitStack() as stack:
        opened = {}
        for name, start in starts.items():
            opened[name] = stack.enter_context(socket.create_connection(("127.0.0.1", target.server.grpc_port)))
            opened[name].sendall(start)
        until_s = time.monotonic() + ENDED_S + 30
        left = [name for name, each in opened.items() if not _ended(each, until_s)]
        assert not left, f"never ended: {left}"
        target.unharmed()


def test_unfinished_messages_are_bounded_and_given_back(tmp_path: Path) -> None:
    """40 messages of 60 MB, of which the last byte never comes, where 128 MiB may be held."""
    bound = 128 * MIB
    with attacked(tmp_path, SLUICE_SERVER_MAX_BUFFERED_BYTES=str(bound)) as target, ExitStack() as stack:
        idle_bytes, most_bytes = target.resident_bytes(), 0.0
        clients = [stack.enter_context(H2Client(target.server.grpc_port)) for _ in range(40)]
        content = message(bytes(60_000_000 - 1), length=60_000_000)
        for client in clients:
            client.open(1, PATHS[0])
            client.send(1, content, patience_s=0.3)
            most_bytes = max(most_bytes, target.resident_bytes() - idle_bytes)
        assert most_bytes < 2 * bound + 64 * MIB, f"{most_bytes / MIB:.0f} MiB are held"
        assert answered(lambda: target.resident_bytes() - idle_bytes < 96 * MIB, 90), "what was held is kept"
        target.unharmed()
        assert fresh_grpc(target.server)


@pytest.mark.parametrize("page", ["/v2/repository/index", "/v2/logging", "/v2/repository/models/linear/load"])
@pytest.mark.parametrize("way", ["length", "chunked"])
def test_pages_take_no_more_than_predictions_do(tmp_path: Path, page: str, way: str) -> None:
    """300 MB to a page: refused, and not held."""
    with attacked(tmp_path) as target:
        idle_bytes, most_bytes = target.resident_bytes(), 0.0
        framing = f"Content-Length: {300 * MIB}" if way == "length" else "Transfer-Encoding: chunked"
        piece = bytes(MIB) if way == "length" else b"100000\r\n" + b" " * MIB + b"\r\n"
        with socket.create_connection(("127.0.0.1", target.server.port), timeout=20) as client:
            client.sendall(f"POST {page} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
            with suppress(OSError):
                for _ in range(300):
                    client.sendall(piece)
                    most_bytes = max(most_bytes, target.resident_bytes() - idle_bytes)
                client.sendall(b"0\r\n\r\n" if way == "chunked" else b"")
            with suppress(ConnectionError):
                status = client.recv(100).split(b" ")[1:2]
                assert status in ([], [b"403"], [b"413"]), status
        most_bytes = max(most_bytes, target.resident_bytes() - idle_bytes)
        assert most_bytes < 160 * MIB, f"{most_bytes / MIB:.0f} MiB are held"
        target.unharmed()


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


def test_parameters_are_not_kept_for_ever(tmp_path: Path) -> None:
    """64 calls with 4 MB of parameters each, all different: emptying the cache gives their memory back."""
    with attacked(tmp_path) as target:
        for number in range(4):
            assert _with_parameter(target.server, f"warm {number}") == 200
        idle_bytes = target.resident_bytes()
        statuses = Counter([_with_parameter(target.server, str(number)) for number in range(64)])
        assert set(statuses) <= {200, 400, 413}
        target.server.client.delete("/admin/cache")
        grown = target.resident_bytes() - idle_bytes
        assert answered(lambda: target.resident_bytes() - idle_bytes < 96 * MIB, 10), f"{grown / MIB:.0f} MiB are kept"
        target.unharmed()


def _with_parameter(server: SluiceProcess, what: str) -> int:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        body = {**LINEAR, "parameters": {"a": what.ljust(4 * MIB, "p")}}
        return client.post("/v2/models/linear/infer", json=body).status_code


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


@pytest.mark.parametrize("door", ["head", "body", "page", "frames", "message"])
def test_slow_drips(tmp_path: Path, door: str) -> None:
    """A byte now and then, for ever: ended in time, and nobody else waits."""
    grpc = door in {"frames", "message"}
    starts = {
        "head": b"POST /v2/models/linear/infer HTTP/1.1\r\nX: ",
        "body": b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
        "page": b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
        "frames": OPENING[:24],
        "message": OPENING + headers(request_fields(PATHS[0]), 1),
    }
    with attacked(tmp_path) as target, ExitStack() as stack:
        port = target.server.grpc_port if grpc else target.server.port
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
        left = set(clients)
        for client in clients:
            client.sendall(starts[door])
            client.setblocking(False)
        until_s = time.monotonic() + ENDED_S + 20
        place = 0
        drip = frame(0, 0, 1, message(bytes(60_000))[:1]) if door == "message" else b"\0\0\1\0" if grpc else b"a"
        while left and time.monotonic() < until_s:
            place += 1
            for client in list(left):
                try:
                    client.send(drip if door == "message" else drip[place % len(drip) :][:1])
                    told = client.recv(1 << 16)
                    if not told or CALL_ENDED in told:
                        left.discard(client)
                except BlockingIOError:
                    pass
                except OSError:
                    left.discard(client)
            time.sleep(0.2)
        assert not left, f"{len(left)} of 50 drip for ever"
        target.unharmed()


def test_thousands_of_health_watches(tmp_path: Path) -> None:
    """8,000 watches, of which nothing is new, cost next to nothing."""
    watched = frame(0, 1, 1, message(b""))
    with attacked(tmp_path) as target, ExitStack() as stack:
        process = psutil.Process(target.server.process.pid)
        before_s = _cpu_s(process, 3.0)
        for _ in range(16):
            client = stack.enter_context(H2Client(target.server.grpc_port))
            client.read(0.5)
            for stream in range(1, 1001, 2):
                fields = request_fields(b"/grpc.health.v1.Health/Watch")
                client.raw(headers(fields, stream) + watched[:5] + stream.to_bytes(4) + watched[9:])
            client.read(0.1)
        time.sleep(2)
        spent_s = _cpu_s(process, 3.0) - before_s
        assert spent_s < 0.3, f"{spent_s / 3:.0%} of a core"
        target.unharmed()


def _cpu_s(process: psutil.Process, for_s: float) -> float:
    before = sum(process.cpu_times()[:2])
    time.sleep(for_s)
    return float(sum(process.cpu_times()[:2]) - before)


def _ended(client: socket.socket, until_s: float) -> bool:
    """Whether the server has ended the connection, or its call, or does so by then. Other words are passed over."""
    client.settimeout(max(until_s - time.monotonic(), 0.01))
    try:
        while told := client.recv(1 << 16):
            if CALL_ENDED in told:
                return True
            client.settimeout(max(until_s - time.monotonic(), 0.01))
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
