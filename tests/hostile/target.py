"""A gateway under attack, an innocent caller beside it, and what to ask of both."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from tests.hostile.control import Control, control
from tests.hostile.frames import KNOWN
from tests.hostile.h2_client import H2Client
from tests.hostile.house import READ_TIMEOUT_S, environment, repository
from tests.integration.server import SluiceProcess, serving, v2, with_grpc

LINEAR = v2("x", [1, 1], [3])


MIB = 1 << 20


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
            each
            for each in process.children()
            if not any("sluice.inference.worker.main" in part for part in each.cmdline())
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


def ended(client: socket.socket, until_s: float) -> bool:
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
