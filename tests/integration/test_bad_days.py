"""Killed workers, poisonous requests, full queues, vanished clients and SIGTERM under load: real processes all."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import models
from tests.integration.server import PATIENCE_S, SLUICE, Answer, PlainClient, SluiceProcess, serving, v2
from tests.waiting import eventually

LINEAR = v2("x", [1, 1], [3])
PAUSE_S = 0.005
"""Between the calls of a client under load, so that the processor is left to the gateway and its workers."""
ENDLESS = 2**62


def loop_request(steps: int) -> dict[str, Any]:
    """For the loop model, which counts up to `steps` one by one."""
    return {"inputs": v2("x", [1, 1], [3])["inputs"] + v2("steps", [1, 1], [steps], "INT64")["inputs"]}


def write_model(folder: Path, name: str, model: bytes, config: str = "") -> Path:
    """A repository with one model in it."""
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(model)
    if config:
        (folder / name / "model.toml").write_text(config)
    return folder


@contextmanager
def load(server: SluiceProcess, model: str, answered: Callable[[Answer], None], clients: int = 8) -> Iterator[None]:
    """Clients that call one after another until the block is left. Their exceptions are raised at its end."""
    stop = threading.Event()

    def call() -> None:
        with closing(PlainClient(server)) as client:
            while not stop.wait(PAUSE_S):
                answered(client.infer(model, LINEAR))

    with ThreadPoolExecutor(clients) as pool:
        calls = [pool.submit(call) for _ in range(clients)]
        try:
            yield
        finally:
            stop.set()
    for each in calls:
        each.result()


def test_no_request_fails_when_workers_are_killed(tmp_path: Path) -> None:
    statuses: Counter[int] = Counter()
    enough = threading.Semaphore(0)

    def answered(response: Answer) -> None:
        statuses[response.status] += 1
        assert response.status != 200 or response.json()["outputs"][0]["data"] == [5.0]
        enough.release()

    with serving(write_model(tmp_path, "linear", models.linear())) as server:
        with load(server, "linear", answered):
            for kills in range(1, 4):
                for _ in range(50):
                    assert enough.acquire(timeout=PATIENCE_S)
                (worker,) = server.workers()
                worker.send_signal(signal.SIGKILL)
                worker.wait(PATIENCE_S)
                while server.metric("sluice_worker_restarts_total") < kills:
                    assert enough.acquire(timeout=PATIENCE_S)
            for _ in range(50):
                assert enough.acquire(timeout=PATIENCE_S)
        assert set(statuses) == {200}
        assert server.metric("sluice_workers", model="linear") == 1


def test_a_poisonous_request_fails_alone(tmp_path: Path) -> None:
    """The loop model runs as often as its input says: one request never ends, its neighbours do."""
    config = "[workers]\nrun_timeout_s = 0.5\n"
    with (
        serving(write_model(tmp_path, "loop", models.loop(), config)) as server,
        ThreadPoolExecutor(9) as pool,
    ):
        poison = pool.submit(server.infer, "loop", loop_request(ENDLESS))
        neighbours = [pool.submit(server.infer, "loop", loop_request(1)) for _ in range(8)]
        assert [each.result().status_code for each in neighbours] == [200] * 8
        answer = poison.result()
        assert answer.status_code == 500
        assert answer.json()["error"]
        assert server.infer("loop", loop_request(1)).status_code == 200


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tmp_path: Path) -> None:
    config = "[batching]\nmax_rows = 1\nmax_queue_rows = 4\n[workers]\nrun_timeout_s = 2\n"
    with (
        serving(write_model(tmp_path, "loop", models.loop(), config)) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        calls = [pool.submit(server.infer, "loop", loop_request(ENDLESS)) for _ in range(12)]
        refused = next(each for each in _as_they_end(calls) if each.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert "queue" in refused.json()["error"]
        server.stop(signal.SIGKILL)


def _as_they_end(calls: Iterable[Future[httpx.Response]]) -> Iterator[httpx.Response]:
    for call in as_completed(calls, timeout=PATIENCE_S):
        yield call.result()


def test_a_request_larger_than_a_batch_is_split_and_put_together(tmp_path: Path) -> None:
    config = "[batching]\nmax_rows = 8\n"
    with serving(write_model(tmp_path, "linear", models.linear(), config)) as server:
        rows = 100
        outputs = server.outputs("linear", v2("x", [rows, 1], list(range(rows))))
        assert outputs["y"] == [2.0 * x - 1 for x in range(rows)]
        assert server.metric("sluice_batch_rows_count", model="linear") >= rows / 8


def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    environment = os.environ | {"SLUICE_SERVER_MAX_BODY_BYTES": "1000"}
    with serving(write_model(tmp_path, "linear", models.linear()), env=environment) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            client.sendall(b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
            answer = client.makefile("rb").read()
        assert b" 413 " in answer.splitlines()[0]
        assert b"1000" in answer
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """Not ready at once, serving on until a second signal, finishing what is in flight, exit status 0."""
    log = tmp_path / "log"
    environment = os.environ | {"SLUICE_SERVER_SHUTDOWN_DELAY_S": "60"}
    outcomes: Counter[str] = Counter()
    answered = threading.Semaphore(0)
    to_be_closed = threading.Event()
    with serving(write_model(tmp_path, "linear", models.linear()), env=environment, log=log) as server:

        def call() -> None:
            """Until the port is closed; an answer that says `Connection: close` is the last on its connection."""
            while True:
                with closing(PlainClient(server)) as client:
                    try:
                        while True:
                            answer = client.infer("linear", LINEAR, headers={})
                            outcomes[str(answer.status)] += 1
                            answered.release()
                            if answer.headers["connection"] == "close":
                                break
                    except ConnectionError:
                        # The port is closed, or was closed before this connection's first request came.
                        assert to_be_closed.is_set()
                        return

        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(call) for _ in range(8)]
            _wait_for(answered, 100)
            workers = server.workers()
            server.process.send_signal(signal.SIGTERM)
            eventually(
                lambda: server.client.get("/v2/health/ready").status_code == 503,
                meanwhile=lambda: server.process.poll() is None,
            )
            assert server.client.get("/v2/health/live").status_code == 200
            _wait_for(answered, 100)
            to_be_closed.set()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(PATIENCE_S) == 0
            for each in calls:
                each.result()
        assert set(outcomes) == {"200"}
        assert not any(worker.is_running() for worker in workers)
    assert "Traceback" not in log.read_text()


def _wait_for(answered: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert answered.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_at_the_signal_is_answered(tmp_path: Path, number: signal.Signals) -> None:
    """The engine is stopped while the signal comes, so that the request cannot have ended before."""
    with (
        serving(write_model(tmp_path, "linear", models.linear())) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        (worker,) = server.workers()
        worker.suspend()
        slow = pool.submit(server.infer, "linear", LINEAR)
        eventually(
            lambda: server.metric("sluice_batches_in_flight", model="linear") >= 1, meanwhile=lambda: not slow.done()
        )
        server.process.send_signal(number)
        eventually(lambda: not _accepts_connections(server.port))
        assert not slow.done()
        worker.resume()
        assert server.process.wait(PATIENCE_S) == 0
        assert slow.result().json()["outputs"][0]["data"] == [5.0]


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_ends_the_start_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """The worker is stopped as soon as it is one, before it can have loaded anything."""
    log = tmp_path / "log"
    models_folder = write_model(tmp_path, "linear", models.linear())
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(SLUICE), "serve", str(models_folder), "--port", "0", "--grpc-port", "0"], stderr=errors
        )
    try:
        gateway = psutil.Process(process.pid)
        eventually(lambda: any(map(_is_worker, gateway.children())), meanwhile=lambda: process.poll() is None)
        workers = [each for each in gateway.children() if _is_worker(each)]
        workers[0].suspend()
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert psutil.wait_procs(workers, timeout=PATIENCE_S)[1] == []
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is past `exec`; stopped before that, it would hold up the gateway in `fork`."""
    with suppress(psutil.NoSuchProcess):
        return any("sluice.inference.worker.main" in argument for argument in process.cmdline())
    return False


def test_clients_that_vanish_harm_nobody(tmp_path: Path) -> None:
    body = json.dumps(LINEAR).encode()
    head = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(write_model(tmp_path, "linear", models.linear())) as server:
        for cut in (10, len(head), len(head) + 5, len(head) + len(body)):
            for _ in range(25):
                with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
                    client.sendall((head + body)[:cut])
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
        assert server.process.poll() is None


def test_the_gateway_never_maps_the_engine(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "linear", models.linear())) as server:
        server.outputs("linear", LINEAR)
        assert "onnxruntime" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        (worker,) = server.workers()
        assert "onnxruntime" in Path(f"/proc/{worker.pid}/maps").read_text()


def test_workers_end_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, "linear", models.linear())) as server:
        workers = server.workers()
        server.stop(signal.SIGKILL)
        assert psutil.wait_procs(workers, timeout=PATIENCE_S)[1] == []


def test_a_model_that_cannot_be_batched_is_served_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(write_model(tmp_path, "fixed", models.fixed_rows()), "--log-format", "json", log=log) as server:
        page = server.client.get("/v2/models/fixed").json()
        (spec,) = page["inputs"]
        count = 1
        for size in spec["shape"]:
            count *= size
        body = v2(spec["name"], spec["shape"], [1] * count)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: server.outputs("fixed", body), range(16)))
        assert all(answer == answers[0] for answer in answers)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["event"] == "served without batching" and line["because"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/at/all"], ["/nowhere/at/all"]),
        (["{broken}"], ["model.onnx"]),
        (["{cuda}"], ["cuda:0", "onnxruntime-gpu"]),
        (["{linear}", "--port", "http"], ["port"]),
        (["{linear}", "--port", "{taken}"], ["cannot listen", "{taken}"]),
        (["{linear}", "--port", "0", "--grpc-port", "{taken}"], ["cannot listen", "{taken}", "--grpc-port"]),
        (["{linear}", "--tls-cert", "/nowhere.pem"], ["tls"]),
        (["{linear}", "--tls-cert", "{readme}", "--tls-key", "{readme}"], ["TLS", "{readme}"]),
        (["{unknown_key}"], ["model.toml", "max_row", "max_rows"]),
    ],
)
def test_a_start_that_cannot_succeed_says_why(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {
            "taken": str(taken.getsockname()[1]),
            "readme": str(Path(__file__).parents[2] / "README.md"),
            "linear": str(write_model(tmp_path / "a", "linear", models.linear())),
            "broken": str(write_model(tmp_path / "b", "broken", b"not a model")),
            "cuda": str(write_model(tmp_path / "c", "linear", models.linear(), '[workers]\ndevice = "cuda:0"\n')),
            "unknown_key": str(write_model(tmp_path / "d", "linear", models.linear(), "[batching]\nmax_row = 4\n")),
        }
        free = ["--port", "0", "--grpc-port", "0"]  # unless the arguments name others
        command = [str(SLUICE), "serve", *free, *[argument.format(**values) for argument in arguments]]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    for word in words:
        assert re.search(re.escape(word.format(**values)), ended.stderr), ended.stderr
