"""All doors of a real server: descriptors are scarce, sockets are closed behind its back, and clients say nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from sluice.gateway.connections.limits import connection_cap, surplus_connections
from sluice.gateway.dialects.v2_grpc import inference_pb2 as pb
from tests.gateway.grpc.test_hostile import HEADS
from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving, v2, with_grpc
from tests.integration.test_bad_days import write_model
from tests.integration.test_deadlines import ONE_WORKER
from tests.integration.test_grpc_bad_days import NO_STORE, channel_to, infer, row, value_of
from tests.integration.test_grpc_pings import Peer, frame
from tests.integration.test_tls import Authority, authority
from tests.models import linear
from tests.waiting import eventually

__all__ = ["authority"]

OPEN_FILES, BEYOND = 256, 100
ROW = v2("x", [1, 1], [3])

SHUT_ON_A_SIGNAL = """
import os, signal
from sluice.gateway.doors.acceptor import Acceptor
doors, start = {}, Acceptor.start
def remembered(self):
    start(self)
    doors[self.door] = self
Acceptor.start = remembered
def shut(*_):
    for door in doors.values():
        os.close(door._listener.fileno())
signal.signal(signal.SIGUSR1, shut)
from sluice.__main__ import main
main()
"""


def free_port() -> int:
    return int(with_grpc()[1])


@contextmanager
def silent(port: int, connections: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S)) for _ in range(connections)
        ]


def predicts(server: SluiceProcess) -> bool:
    with channel_to(server) as channel:
        answer = infer(channel)(row().SerializeToString(), metadata=NO_STORE, timeout=PATIENCE_S)
    return value_of(answer) == 5 and server.outputs("linear", ROW) == {"y": [5.0]}


def test_silent_connections_leave_room_for_everything_else(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "linear", linear(), ONE_WORKER)
    management = free_port()
    # In the child alone: the limit of the tests' own process would be for good.
    limited = [sys.executable, "-c", LIMITED, str(OPEN_FILES)]
    options = (*with_grpc(), "--management-port", str(management))
    with serving(folder, *options, prefix=limited) as server, channel_to(server) as channel:
        assert predicts(server)
        assert value_of(infer(channel)(row().SerializeToString(), metadata=NO_STORE)) == 5
        for port in (server.port, server.grpc_port, management):
            refused = server.metric("sluice_connections_refused_total")
            with silent(port, OPEN_FILES + BEYOND) as connections:
                # Those beyond the bound are told or hung up on, long before their deadline.
                for beyond in connections[-BEYOND:]:
                    beyond.settimeout(PATIENCE_S)
                    with suppress(ConnectionError):
                        while beyond.recv(4096):
                            pass
                at_most = connection_cap(10_000, OPEN_FILES, OPEN_FILES // 2)
                assert server.metric("sluice_connections") <= at_most + surplus_connections(at_most)
                assert server.metric("sluice_connections_refused_total") >= refused + BEYOND
                # Who is connected is served on, and a worker that dies is replaced.
                assert value_of(infer(channel)(row().SerializeToString(), metadata=NO_STORE)) == 5
                (worker,) = server.workers()
                worker.kill()
                eventually(partial(is_replaced, server, worker))
                assert value_of(infer(channel)(row().SerializeToString(), metadata=NO_STORE)) == 5
                assert server.outputs("linear", ROW) == {"y": [5.0]}
            eventually(lambda: server.metric("sluice_connections") <= 10)
            assert predicts(server)


def is_replaced(server: SluiceProcess, worker: psutil.Process) -> bool:
    return server.metric("sluice_workers", model="linear") >= 1 and server.workers() != [worker]


LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_handshake_that_does_not_come_has_an_end_at_every_door(authority: Authority) -> None:
    """And counts as a connection until then."""
    certificate, key = authority.issue("server")
    management = free_port()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--management-port", str(management))
    env = os.environ | {"SLUICE_SERVER_READ_TIMEOUT_S": "1"}
    with serving(EXAMPLES, *options, *with_grpc(), env=env, verify=False) as server, ExitStack() as stack:
        silent_ones = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            for port in (server.port, server.grpc_port, management)
        ]
        for each in silent_ones:
            assert each.recv(1) == b""
        eventually(lambda: server.metric("sluice_connections") <= 1)


def test_doors_that_are_shut_are_opened_anew(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "linear", linear(), ONE_WORKER)
    management = free_port()
    log = tmp_path / "log"
    script = tmp_path / "shut.py"
    script.write_text(SHUT_ON_A_SIGNAL)
    options = (*with_grpc(), "--management-port", str(management), "--log-format", "json")
    command = [sys.executable, str(script)]
    with serving(folder, *options, log=log, prefix=[sys.executable, "-c", AS_SLUICE, *command]) as server:
        assert predicts(server)
        server.process.send_signal(signal.SIGUSR1)
        eventually(lambda: server.metric("sluice_doors_reopened_total") >= 3)
        for door in ("http", "grpc", "management"):
            assert server.metric("sluice_doors_reopened_total", door=door) == 1
        # New connections, at every door.
        with httpx.Client(base_url=server.url) as other:
            assert other.get("/v2/health/ready").status_code == 200
            assert other.get("/v2/health").json()["doors"] == []
        assert httpx.get(f"http://127.0.0.1:{management}/ping").status_code == 200
        assert predicts(server)
        assert server.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["door"] for line in lines if line["event"] == "a door was shut and is open again") == [
        "grpc",
        "http",
        "management",
    ]


AS_SLUICE = "import os, sys; os.execv(sys.argv[1], [*sys.argv[1:3], *sys.argv[4:]])"


def test_two_doors_on_one_port_are_an_error_that_names_both() -> None:
    ended = subprocess.run(
        [str(SLUICE), "serve", str(EXAMPLES), "--port", "9999", "--grpc-port", "9999"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "Error: the settings are wrong:\n  --port: is 9999, as server.grpc_port is; each needs a port of its own\n"
    )


def test_no_path_ends_the_door_for_grpc(examples: SluiceProcess) -> None:
    """The sixty bytes that ended it once, and others of their kind."""
    for head in HEADS:
        with socket.create_connection(("127.0.0.1", examples.grpc_port), PATIENCE_S) as wire:
            peer = Peer(wire)
            peer.send(frame(1, 5, head)[:8] + b"\x01" + head)
            peer.send(frame(6, 0, bytes(8)))
            for kind, flags, _ in peer.frames():
                if (kind, flags) == (6, 1):
                    break
    assert predicts(examples)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    """A server that takes short messages, holds few of them, and compresses all of its answers."""
    settings = tmp_path_factory.mktemp("narrow") / "sluice.toml"
    settings.write_text("[server]\ncompress_from_bytes = 1\nmax_body_bytes = '16MiB'\nmax_buffered_bytes = '32MiB'\n")
    with serving(EXAMPLES, "--config", str(settings), *with_grpc()) as server:
        yield server


def test_messages_may_be_compressed_and_content_codings_of_http_mean_nothing(narrow: SluiceProcess) -> None:
    with channel_to(narrow) as channel:
        for coding in ((("accept-encoding", "gzip"),), (("content-encoding", "br"),), (("content-encoding", "gzip"),)):
            answer = infer(channel)(row().SerializeToString(), metadata=(*NO_STORE, *coding), timeout=PATIENCE_S)
            assert value_of(answer) == 5
        request = pb.ModelInferRequest(model_name="linear", raw_input_contents=[bytes(4_000)])
        request.inputs.add(name="x", datatype="FP32", shape=[1_000, 1])
        bomb = pb.ModelInferRequest(model_name="linear", raw_input_contents=[bytes(17 * 2**20)]).SerializeToString()
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            for each in (request, row()):
                answer = infer(channel)(each.SerializeToString(), compression=compression, timeout=PATIENCE_S)
                assert pb.ModelInferResponse.FromString(answer).model_name == "linear"
            with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
                infer(channel)(bomb, compression=compression, timeout=PATIENCE_S)
        assert value_of(infer(channel)(row().SerializeToString(), timeout=PATIENCE_S)) == 5


def test_unfinished_messages_stay_within_what_may_be_held(narrow: SluiceProcess, tmp_path: Path) -> None:
    """20 connections that each begin a message of 15 MB and send as much as they are let."""
    assert predicts(narrow)
    before = narrow.metric("process_resident_memory_bytes")
    script = tmp_path / "senders.py"
    script.write_text(SENDERS)
    sent = subprocess.run(
        [sys.executable, str(script), str(narrow.grpc_port)], capture_output=True, text=True, timeout=100, check=True
    )
    refused, most = map(int, sent.stdout.split())
    assert refused >= 15
    assert predicts(narrow)
    grown = narrow.metric("process_resident_memory_bytes") - before
    assert grown < 100 * 2**20, (grown, most)


SENDERS = """
import asyncio, sys
import h2.config, h2.connection, h2.events

SIZE = 15_000_000

async def one(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    machine.initiate_connection()
    machine.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "x"), ("te", "trailers"),
        (":path", "/inference.GRPCInferenceService/ModelInfer"), ("content-type", "application/grpc")][:3]
        + [(":path", "/inference.GRPCInferenceService/ModelInfer"), ("te", "trailers"),
           ("content-type", "application/grpc")])
    machine.send_data(1, b"\\x00" + SIZE.to_bytes(4, "big"))
    sent, status = 0, None
    while status is None and sent < SIZE - 1_000_000:
        while (room := min(machine.local_flow_control_window(1), 16384)) > 0 and sent < SIZE - 1_000_000:
            machine.send_data(1, bytes(room))
            sent += room
            if sent % 65536 < room:
                writer.write(machine.data_to_send())
        writer.write(machine.data_to_send())
        data = await reader.read(65536)
        if not data:
            break
        for event in machine.receive_data(data):
            headers = getattr(event, "headers", None) or []
            for name, value in headers:
                if bytes(name) == b"grpc-status":
                    status = int(value)
    return writer, status, sent

async def main():
    async with asyncio.timeout(90):
        tasks = [asyncio.create_task(one(int(sys.argv[1]))) for _ in range(20)]
        done = await asyncio.gather(*tasks)
    print(sum(status == 14 for _, status, _ in done), max(sent for *_, sent in done))
    for writer, *_ in done:
        writer.transport.abort()

asyncio.run(main())
"""


def test_watching_costs_nothing_while_nothing_changes(examples: SluiceProcess) -> None:
    """2,000 watches, whose looks of their own took more than the time that passes here."""
    import psutil

    process = psutil.Process(examples.process.pid)
    head = HEALTH_WATCH
    with ExitStack() as stack:
        peers = []
        for _ in range(2):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", examples.grpc_port), PATIENCE_S))
            peer = Peer(wire)
            peer.send(
                b"".join(
                    at(frame(1, 4, head), stream) + at(frame(0, 1, bytes(5)), stream) for stream in range(1, 2001, 2)
                )
            )
            peers.append(peer)
        for peer in peers:
            told = 0
            for kind, _, _ in peer.frames():
                told += kind == 0
                if told == 1000:
                    break
        before_s = sum(process.cpu_times()[:2])
        with httpx.Client() as client:
            # Two looks at what may have changed, as the gateway's own loop tells.
            begun = examples.metric("sluice_event_loop_lag_seconds_count")
            while examples.metric("sluice_event_loop_lag_seconds_count") < begun + 5:
                client.get(f"{examples.url}/v2/health/ready")
        assert sum(process.cpu_times()[:2]) - before_s < 5
    assert predicts(examples)


HEALTH_WATCH = (
    b"\x83\x86"
    + b"\x04"
    + bytes([len(b"/grpc.health.v1.Health/Watch")])
    + b"/grpc.health.v1.Health/Watch"
    + b"\x0f\x10"
    + bytes([len(b"application/grpc")])
    + b"application/grpc"
)


def at(data: bytes, stream: int) -> bytes:
    """The same frame on another stream."""
    return data[:5] + stream.to_bytes(4, "big") + data[9:]
