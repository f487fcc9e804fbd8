"""Connections that are opened while the gateway stops: answered, or refused; never reset."""

from __future__ import annotations

import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import models
from tests.integration.server import PATIENCE_S, serving

CLIENTS = 8
ASK = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models.place(models.linear(), folder / "linear" / "1")
    return folder


def outcome(port: int) -> str:
    """What became of one new connection with one request."""
    with socket.socket() as client:
        client.settimeout(PATIENCE_S)
        try:
            client.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return "refused"
        try:
            client.sendall(ASK)
            heard = b""
            while part := client.recv(4096):
                heard += part
        except ConnectionError as error:
            return type(error).__name__
        return "answered" if heard.startswith(b"HTTP/1.1 200 ") else "nothing"


@pytest.mark.parametrize(("delay_s", "connections"), [("0", 400), ("0.2", 200)])
def test_no_new_connection_is_reset_while_the_gateway_stops(repository: Path, delay_s: str, connections: int) -> None:
    settings = repository / f"after-{delay_s}.toml"
    settings.write_text(f"[server]\nshutdown_delay_s = {delay_s}\n")
    outcomes: Counter[str] = Counter()
    warm = threading.Semaphore(0)

    with serving(repository, "--config", str(settings)) as server:

        def call() -> None:
            while (became := outcome(server.port)) != "refused":
                outcomes[became] += 1
                warm.release()

        with ThreadPoolExecutor(CLIENTS) as pool:
            calls = [pool.submit(call) for _ in range(CLIENTS)]
            for _ in range(connections):
                assert warm.acquire(timeout=PATIENCE_S)
            server.process.send_signal(signal.SIGTERM)
            for each in calls:
                each.result(PATIENCE_S)
        assert server.process.wait(PATIENCE_S) == 0
    assert outcomes["answered"] >= connections
    assert set(outcomes) == {"answered"}
