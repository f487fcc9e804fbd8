"""Server processes under measurement: started, timed, and ended by their pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

SLUICE = Path(sys.executable).with_name("sluice")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running server: its address, and the processor time of it and all its children."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_after_s: float) -> None:
        self.port = port
        self.ready_after_s = ready_after_s
        self._process = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """User and system time so far, of the server and its living children, in seconds."""
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def gateway_cpu_s(self) -> float:
        """User and system time so far of the server process alone, in seconds."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def gateway_rss_bytes(self) -> int:
        """Resident memory of the server process alone, without its children."""
        rss: int = self._process.memory_info().rss
        return rss


@contextmanager
def running(
    command: Sequence[str], port: int, env: Mapping[str, str] | None = None, errors: int | None = None
) -> Iterator[Server]:
    """A server that accepts connections on `port`; it gets SIGTERM at the end. Its log goes to `errors`."""
    started_s = time.perf_counter()
    process = subprocess.Popen([*command], stdout=subprocess.DEVNULL, stderr=errors, env=env)
    try:
        _wait_until_listening(process, port)
        yield Server(process, port, time.perf_counter() - started_s)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


NO_CACHE = {"SLUICE_CACHE_ENABLED": "false"}
"""Most benchmarks send one row again and again, and are about what it takes to compute it."""


def _ports(port: int) -> list[str]:
    """Options of a server that listens on one port: gRPC's own would be the same for all."""
    return ["--port", str(port), "--grpc-port", "0"]


@contextmanager
def sluice(
    models: Path,
    *options: str,
    settings: Mapping[str, str] = NO_CACHE,
    errors: int | None = subprocess.DEVNULL,
    program: Path = SLUICE,
) -> Iterator[Server]:
    """Sluice as a user runs it, all metrics on, with these variables of its environment."""
    port = free_port()
    command = [str(program), "serve", str(models), *_ports(port), *options]
    with running(command, port, env=os.environ | settings, errors=errors) as server:
        yield server


@contextmanager
def sluice_with_gets(models: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """Sluice that awaits one GET of Redis for each row."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "benchmarks.get_gateway",
        "serve",
        str(models),
        "--port",
        str(port),
        "--grpc-port",
        "0",
    ]
    with running(command, port, env=os.environ | settings, errors=subprocess.DEVNULL) as server:
        yield server


@contextmanager
def silent_sluice(models: Path) -> Iterator[Server]:
    """Sluice without any of its instrumentation, and without cache."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "benchmarks.silent_gateway",
        "serve",
        str(models),
        "--port",
        str(port),
        "--grpc-port",
        "0",
    ]
    with running(command, port, env=os.environ | NO_CACHE, errors=subprocess.DEVNULL) as server:
        yield server


@contextmanager
def bare_uvicorn() -> Iterator[Server]:
    """The reference for the HTTP path: uvicorn with an ASGI handler that does nothing."""
    with _module("benchmarks.bare_asgi") as server:
        yield server


@contextmanager
def bare_grpc() -> Iterator[Server]:
    """The reference for gRPC: a server of grpc.aio with a method that does nothing."""
    with _module("benchmarks.bare_grpc") as server:
        yield server


@contextmanager
def uvicorn_with_gets(redis_url: str) -> Iterator[Server]:
    """The reference for Redis: uvicorn with an ASGI handler that awaits one GET for each request."""
    with _module("benchmarks.get_asgi", redis_url) as server:
        yield server


@contextmanager
def _module(name: str, *arguments: str) -> Iterator[Server]:
    port = free_port()
    with running([sys.executable, "-m", name, str(port), *arguments], port) as server:
        yield server


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.perf_counter() + 60
    while time.perf_counter() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen on {port}")
