"""A Docker engine of the tests' own: nobody else sees its images, containers and networks, and they go when it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TOOLS = {
    "curl": "curl",
    "debootstrap": "debootstrap",
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "ip": "iproute2",
    "iptables": "iptables",
    "unshare": "util-linux",
}
"""The commands that are used, and Debian's packages of them."""

STARTS_IN_S = 60
STOPS_IN_S = 60
UNBRIDGED = ("--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none")
"""An engine that leaves the machine's network as it is. Its builds use that network; it can run nothing else."""


class Engine:
    """A running engine, and commands that talk to it from where its containers' ports are published."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], inside: Sequence[str]) -> None:
        self._socket = folder / "sock"
        self._process = process
        self._inside = tuple(inside)

    def run(self, *command: str, within_s: float = 120, cwd: Path | None = None) -> str:
        """The standard output of a command. Fails the test, with all that it said, if the command failed."""
        environment = os.environ | {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "1"}
        ended = subprocess.run(
            [*self._inside, *command],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env=environment,
            cwd=cwd,
        )
        assert ended.returncode == 0, f"{command} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def docker(self, *arguments: str, within_s: float = 120, cwd: Path | None = None) -> str:
        # By its path: what comes first on PATH may be a newer client, which refuses this engine.
        return self.run("/usr/bin/docker", *arguments, within_s=within_s, cwd=cwd).strip()

    def await_start(self) -> None:
        until_s = time.monotonic() + STARTS_IN_S
        while not self._socket.exists():
            assert self._process.poll() is None, "dockerd ended at once"
            assert time.monotonic() < until_s, "dockerd did not start"
            time.sleep(0.05)
        self.docker("version")


@contextmanager
def engine_folder() -> Iterator[Path]:
    """Where engines keep everything; nothing of it is left. Short, since the path of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="stack-") as folder:
        yield Path(folder)


@contextmanager
def building(folder: Path) -> Iterator[Engine]:
    """An engine that builds images, with the network of this machine."""
    with _engine(folder, ("unshare", "--mount"), UNBRIDGED) as engine:
        yield engine


@contextmanager
def running(folder: Path) -> Iterator[Engine]:
    """An engine on the same images, in a network namespace of its own: its bridges and ports are in there alone."""
    with _engine(folder, ("unshare", "--mount", "--net"), ()) as engine:
        yield engine


@contextmanager
def _engine(folder: Path, apart: Sequence[str], options: Sequence[str]) -> Iterator[Engine]:
    (folder / "sock").unlink(missing_ok=True)
    dockerd = ["dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    dockerd += [f"--host=unix://{folder}/sock", *options]
    # `exec`, so that the process which was started is the engine.
    script = 'ip link set lo up; exec "$@"' if "--net" in apart else 'exec "$@"'
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*apart, "sh", "-c", script, "sh", *dockerd], stdout=log, stderr=log, start_new_session=True
        )
    try:
        engine = Engine(folder, process, ("nsenter", "--target", str(process.pid), "--net", "--"))
        engine.await_start()
        yield engine
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_IN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its containerd, too, is of the session that it leads
        process.wait()
