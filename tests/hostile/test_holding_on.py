"""Attacks that no fuzzer comes upon: each holds on to something that everybody needs, or waits where it hurts."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.hostile.frames import KNOWN, OPENING, PATHS, frame, headers, message, request_fields
from tests.hostile.h2_client import H2Client
from tests.hostile.target import (
    CALL_ENDED,
    ENDED_S,
    LINEAR,
    MIB,
    answered,
    attacked,
    ended,
    fresh_grpc,
    fresh_http,
)
from tests.hostile.watch import log_faults
from tests.integration.server import PATIENCE_S, SluiceProcess

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(300)]

FEW_FILES = ("sh", "-c", 'ulimit -n 1024; exec "$0" "$@"')


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
        worker = next(
            each for each in server.workers() if any("sluice.inference.worker.main" in part for part in each.cmdline())
        )
        worker.kill()
        assert answered(lambda: fresh_http(server), ENDED_S), "no new caller is answered over HTTP"
        assert answered(lambda: fresh_grpc(server), ENDED_S), "no new caller is answered over gRPC"
        over = [ended(each, time.monotonic() + ENDED_S) for each in opened]
        assert all(over), f"{over.count(False)} of {len(over)} silent connections stay for ever"
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
        left = [name for name, each in opened.items() if not ended(each, until_s)]
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
