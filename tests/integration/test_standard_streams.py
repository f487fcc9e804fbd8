"""A gateway whose standard streams are closed, full, or left by their readers serves all the same."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests import models
from tests.integration.server import PATIENCE_S, SLUICE, v2
from tests.integration.test_management_api import free_port


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models.place(models.linear(), folder / "linear" / "1")
    return folder


@contextmanager
def started(
    repository: Path, redirections: str = "", stream: int | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    command = f'exec "{SLUICE}" serve "{repository}" --port {port} --grpc-port 0 {redirections}'
    process = subprocess.Popen(["sh", "-c", command], stdout=stream, stderr=stream)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            until_s = time.monotonic() + PATIENCE_S
            while True:
                assert process.poll() is None
                assert time.monotonic() < until_s
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.02)
            yield process, client
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def serves(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    for call in range(20):
        answer = client.post("/v2/models/linear/infer", json=v2("x", [1, 1], [call]))
        assert answer.json()["outputs"][0]["data"] == [2 * call - 1]
        # A line of the log each.
        assert client.post("/v2/models/none/infer", json={}).status_code == 404
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    "redirections", ["<&- >&- 2>&-", pytest.param("> /dev/full 2> /dev/full", marks=pytest.mark.nightly)]
)
def test_streams_that_take_nothing_do_not_matter(repository: Path, redirections: str) -> None:
    with started(repository, redirections) as (process, client):
        serves(process, client)


def test_readers_that_have_gone_do_not_matter(repository: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with started(repository, stream=writer) as (process, client):
            serves(process, client)
    finally:
        os.close(writer)


@pytest.mark.parametrize("blocking", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_readers_that_do_not_read_do_not_matter(repository: Path, blocking: bool) -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        assert fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
        os.set_blocking(writer, blocking)
        with started(repository, stream=writer) as (process, client):
            serves(process, client)
    finally:
        os.close(reader)
        os.close(writer)
