"""`sluice load` as a user runs it, against a real gateway and against servers that behave badly."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.integration.server import PATIENCE_S, SLUICE, SluiceProcess, serving
from tests.integration.test_tls import Authority

LONG_MS = "60000"
"""An objective that any machine keeps."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceProcess]:
    file = models.place(models.tiny(), tmp_path_factory.mktemp("models"), "tiny.onnx")
    with serving(file) as process:
        yield process


def load(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SLUICE), "load", *map(str, arguments), "--connections", "16"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def reported(*arguments: str | Path) -> dict[str, Any]:
    ran = load(*arguments, "--json", "-", "--quiet")
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


SHORT = ("--rate", "200", "--duration", "0.5", "--warm-up", "0.2", "--timeout", "30")


@pytest.mark.parametrize("pattern", ["poisson", "constant", "bursts"])
def test_the_report_agrees_with_the_gateway(gateway: SluiceProcess, pattern: str) -> None:
    requests = gateway.metric("sluice_requests_total", model="tiny")
    rows = gateway.metric("sluice_batch_rows_sum", model="tiny")

    seen = reported(gateway.url, "--model", "tiny", "--rows", "3", "--pattern", pattern, *SHORT)

    offered = seen["counts"]["offered"]
    assert offered > 0
    assert seen["counts"]["statuses"] == {"200": offered}
    assert gateway.metric("sluice_requests_total", model="tiny") - requests == offered
    assert gateway.metric("sluice_batch_rows_sum", model="tiny") - rows == 3 * offered  # nothing was from the cache
    assert seen["generator"]["reopened"] == 0
    assert seen["figures"]["counts"]["offered"] <= offered
    assert seen["figures"]["ok"]["samples"] == seen["figures"]["counts"]["offered"]


def test_with_cache_repeated_rows_are_answered_from_it(gateway: SluiceProcess) -> None:
    hits = gateway.metric("sluice_cache_hits_total")

    reported(gateway.url, "--model", "tiny", "--cache", "--distinct", "1", *SHORT)

    assert gateway.metric("sluice_cache_hits_total") > hits


def test_what_is_sent_may_be_given_in_files_and_its_headers_too(gateway: SluiceProcess, tmp_path: Path) -> None:
    bodies = [tmp_path / "one.json", tmp_path / "two.json"]
    for rows, file in enumerate(bodies, start=1):
        data = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [0.5] * 4 * rows}
        file.write_text(json.dumps({"inputs": [data]}))
    files = [part for file in bodies for part in ("--body", file)]

    seen = reported(f"{gateway.url}/v2/models/tiny/infer", *files, "--header", "X-Team: one: two", *SHORT)

    assert seen["counts"]["statuses"] == {"200": seen["counts"]["offered"]}
    assert (seen["called"]["bodies"], seen["called"]["headers"]) == (2, ["X-Team", "Cache-Control"])


def test_exit_status_follows_the_objective(gateway: SluiceProcess) -> None:
    arguments = (gateway.url, "--model", "tiny", *SHORT, "--quiet")

    kept = load(*arguments, "--objective-ms", LONG_MS)
    broken = load(*arguments, "--objective-ms", "0.001")
    excused = load(*arguments, "--objective-ms", "0.001", "--min-goodput", "0")

    assert [kept.returncode, broken.returncode, excused.returncode] == [0, 1, 0]
    assert "Objective kept" in kept.stdout
    assert "Objective not kept" in broken.stdout


def test_a_run_without_any_good_answer_fails(gateway: SluiceProcess, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")

    ran = load(f"{gateway.url}/v2/models/tiny/infer", "--body", body, *SHORT, "--quiet")

    assert ran.returncode == 1
    assert "400:" in ran.stdout


def test_a_ramp_names_the_capacity_and_is_drawn(gateway: SluiceProcess, tmp_path: Path) -> None:
    files = "--json", tmp_path / "report.json", "--plot", tmp_path / "plot.svg"
    ramp = "--pattern", "ramp", "--rate", "50", "--to-rate", "150", "--steps", "3", "--duration", "1.5"

    ran = load(gateway.url, "--model", "tiny", *ramp, "--timeout", "30", "--objective-ms", LONG_MS, *files)

    assert ran.returncode == 0, ran.stderr
    assert "Capacity: 150.0 requests/s or more" in ran.stdout
    assert "answers/s" in ran.stderr  # lines, as this is no terminal
    seen = json.loads((tmp_path / "report.json").read_text())
    assert [step["rate_per_s"] for step in seen["steps"]] == [50, 100, 150]
    assert seen["capacity_per_s"] == 150
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1", "--model", "m"], "cannot connect to 127.0.0.1:1: Connection refused"),
        (["nonsense", "--model", "m"], "'nonsense' is not a URL"),
        (["GATEWAY", "--model", "nobody"], "knows no model 'nobody'"),
        (["GATEWAY"], "Give --model NAME or --body FILE"),
        (["GATEWAY", "--model", "tiny", "--pattern", "ramp"], "--to-rate"),
        (["GATEWAY", "--model", "tiny", "--header", "nothing"], "'Name: value'"),
        (["GATEWAY", "--model", "tiny", "--json", "/nowhere/report.json"], "there is no folder /nowhere"),
        (["GATEWAY", "--model", "tiny", "--plot", "plot.gif"], "ends in .svg"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(gateway: SluiceProcess, arguments: list[str], words: str) -> None:
    ran = load(*[each.replace("GATEWAY", gateway.url) for each in arguments], "--rate", "10")

    assert ran.returncode == 2
    assert words in ran.stderr
    assert ran.stderr.startswith("Error: ")
    assert ran.stderr.count("\n") == 1


def test_https_is_trusted_by_its_authority_or_not_at_all(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    file = models.place(models.tiny(), tmp_path / "models", "tiny.onnx")
    with serving(file, "--tls-cert", str(certificate), "--tls-key", str(key), verify=False) as server:
        arguments = (server.url, "--model", "tiny", *SHORT)
        trusted = reported(*arguments, "--ca-file", authority.file)
        careless = reported(*arguments, "--insecure")
        refused = load(*arguments)

    for seen in (trusted, careless):
        assert seen["counts"]["statuses"] == {"200": seen["counts"]["offered"]}
    assert refused.returncode == 2
    assert "its certificate is not trusted" in refused.stderr


def test_a_run_that_is_interrupted_reports_what_was_done(gateway: SluiceProcess) -> None:
    command = [str(SLUICE), "load", gateway.url, "--model", "tiny", "--rate", "100", "--warm-up", "0"]
    command += ["--duration", "600", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "answers/s" in process.stderr.readline()  # it is under way
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)

    seen = json.loads(out)
    assert process.returncode == 0
    assert seen["stopped"]
    assert seen["window"]["end_s"] < 600
    assert seen["counts"]["statuses"]["200"] + seen["counts"]["unsent"] == seen["counts"]["offered"] > 0


def test_a_terminal_gets_a_bar(gateway: SluiceProcess) -> None:
    ours, its = pty.openpty()
    command = [str(SLUICE), "load", gateway.url, "--model", "tiny", "--rate", "100", "--duration", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=its) as process:
        os.close(its)
        shown = b""
        while b"answers/s" not in shown:
            shown += os.read(ours, 4096)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        assert process.wait(PATIENCE_S) == 0

    assert b"%" in shown


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:  # the other end of a terminal that is gone
        os.close(descriptor)


@contextmanager
def hanging_up() -> Iterator[tuple[str, list[int]]]:
    """A server that ends every connection at its first byte. Its URL, and for each connection a one."""
    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                seen.append(1)
                threading.Thread(target=hang_up, args=(connection,), daemon=True).start()

        def hang_up(connection: socket.socket) -> None:
            with connection:
                connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)


def test_a_server_that_hangs_up_is_called_again_but_not_without_end(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x")
    with hanging_up() as (url, connections):
        ran = load(url, "--body", body, "--rate", "100", "--duration", "1", "--warm-up", "0", "--json", "-")

    counts = json.loads(ran.stdout)["counts"]
    assert ran.returncode == 1
    assert counts["lost"] + counts["unsent"] == counts["offered"]
    assert counts["lost"] > 16  # more than there were connections at first
    assert len(connections) <= counts["lost"] + 16
