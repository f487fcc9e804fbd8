"""Folders, standard streams and environments in which `sluice serve` may be started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import EXAMPLES
from tests.integration.server import PATIENCE_S, SLUICE, serving, with_grpc
from tests.integration.test_in_the_field import LINEAR, POWERLESS, alone, needs_root
from tests.waiting import eventually


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "sluice.toml").write_text("[server]\nport = 1\n")
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@needs_root
def test_a_working_folder_that_is_closed_has_no_settings(closed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(EXAMPLES, prefix=POWERLESS, cwd=closed, env={"PATH": os.environ["PATH"]}, log=log) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
    assert f"Warning: {closed}/sluice.toml cannot be looked for: Permission denied" in log.read_text()


def test_a_working_folder_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    leaves = ("sh", "-c", 'rmdir ../gone && exec "$@"', "sh")
    with serving(EXAMPLES, prefix=leaves, cwd=tmp_path / "gone") as server:
        assert not (tmp_path / "gone").exists()
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}


@needs_root
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--config", "{closed}/sluice.toml"],
            "--config: {closed}/sluice.toml cannot be looked for: Permission denied",
        ),
        (["--config", "{open}/shut.toml"], "Path '{open}/shut.toml' is not readable"),
        (["--config", "{open}"], "{open}: cannot be read: Is a directory"),
        (
            ["--tls-cert", "{closed}/c.pem", "--tls-key", "{closed}/k.pem"],
            "cannot be looked at: Permission denied",
        ),
        (["{closed}/models"], "{closed}/models: cannot be read: Permission denied"),
        (["{closed}"], "Path '{closed}' is not readable"),
    ],
)
def test_what_may_not_be_read_is_said_plainly(closed: Path, tmp_path: Path, options: list[str], expected: str) -> None:
    (tmp_path / "shut.toml").touch(0)
    places = {"closed": str(closed), "open": str(tmp_path)}
    arguments = [option.format(**places) for option in options]
    if arguments[0].startswith("--"):
        arguments.insert(0, str(EXAMPLES))
    ended = alone(*POWERLESS, str(SLUICE), "serve", *arguments, "--port", "0", "--grpc-port", "0")
    assert ended.returncode in (1, 2)
    assert expected.format(**places) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_matter(tmp_path: Path, closing: str) -> None:
    ports = with_grpc(), with_grpc()
    port = ports[0][1]
    command = f"exec {SLUICE} serve {EXAMPLES} --port {port} --grpc-port 0 {closing}"
    process = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return client.post("/v2/models/linear/infer", json=LINEAR).status_code == 200
                except httpx.TransportError:
                    return False

            eventually(answers)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


SHADOWS = ("inference", "cache", "gateway", "batching", "loadgen")


@pytest.mark.parametrize("kind", ["package", "module", "broken"])
@pytest.mark.parametrize("where", ["PYTHONPATH", "working folder"])
def test_foreign_packages_of_the_same_names_are_not_ours(tmp_path: Path, where: str, kind: str) -> None:
    for name in SHADOWS:
        if kind == "module":
            (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(
                "VALUE = 1\n" if kind == "package" else "raise SystemExit(7)\n"
            )
    env = os.environ | ({"PYTHONPATH": str(tmp_path)} if where == "PYTHONPATH" else {})
    with serving(EXAMPLES, env=env, cwd=tmp_path) as server:
        assert server.outputs("linear", LINEAR) == {"y": [5.0]}
    ended = alone(sys.executable, "-m", "sluice", "--version", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"sluice, version \d", ended.stdout)
