"""What breaks meanwhile: workers are killed and stopped, Redis is emptied, frozen and killed; all by chance."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from random import Random

import psutil

from tests.integration.server import SluiceProcess
from tests.redis_server import RedisServer

STOPPED_S, FROZEN_S, AWAY_S = 0.7, 0.5, 0.5


_PIDFD_GETFD = 438
"""The system call that gives one process another one's open file, on x86-64 and ARM64 alike."""


def shut(pid: int, port: int) -> None:
    """Shut the socket that a process of our own listens on at this port, behind its back."""
    number = next(
        each.fd
        for each in psutil.Process(pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    )
    handle = os.pidfd_open(pid)
    try:
        taken = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, handle, number, 0)
        if taken < 0:
            raise OSError(ctypes.get_errno(), "the listening socket cannot be taken")
    finally:
        os.close(handle)
    with socket.socket(fileno=taken) as listener:
        listener.shutdown(socket.SHUT_RDWR)


class Faults(threading.Thread):
    """One fault every `every_s` until the block is left. It leaves everything running, or as the kernel left it."""

    def __init__(self, server: SluiceProcess, redis: RedisServer, seed: int, every_s: float = 2.0) -> None:
        super().__init__(daemon=True)
        self._server, self._redis, self._every_s = server, redis, every_s
        self._chance = Random(f"{seed} faults")
        self._over = threading.Event()
        self.made: Counter[str] = Counter()

    def run(self) -> None:
        kinds: list[tuple[str, Callable[[], None]]] = [
            ("a worker is killed", self._kill),
            ("a worker is stopped", self._stop),
            ("Redis is emptied", self._empty),
            ("Redis is frozen", self._freeze),
            ("Redis is killed and started anew", self._restart),
        ]
        while not self._over.wait(self._every_s):
            what, make = self._chance.choice([*kinds[:2], *kinds])
            try:
                make()
            except psutil.NoSuchProcess:
                continue  # it has just been replaced
            self.made[what] += 1

    def __enter__(self) -> Faults:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def _worker(self) -> psutil.Process:
        workers = [
            each
            for each in self._server.workers()
            if any("sluice.inference.worker.main" in part for part in each.cmdline())
        ]
        if not workers:
            raise psutil.NoSuchProcess(0)
        return self._chance.choice(workers)

    def _kill(self) -> None:
        self._worker().send_signal(signal.SIGKILL)

    def _stop(self) -> None:
        worker = self._worker()
        worker.send_signal(signal.SIGSTOP)
        self._over.wait(STOPPED_S)
        worker.send_signal(signal.SIGCONT)

    def _empty(self) -> None:
        with self._redis.client as client:
            client.flushall()

    def _freeze(self) -> None:
        self._redis.freeze()
        self._over.wait(FROZEN_S)
        self._redis.thaw()

    def _restart(self) -> None:
        self._redis.kill()
        self._over.wait(AWAY_S)
        self._redis.start()
