"""What is built from the repository, and what it is once it is installed: one package, with everything in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "models"
WHEEL = "sluice_gateway-*.whl"
NOT_INSTALLED = {"__pycache__", ".mypy_cache"}


class Built(msgspec.Struct, frozen=True):
    """What hatchling made of the repository, and of its own sdist."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def hatchling(project: Path, into: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(into), *targets]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    hatchling(ROOT, folder)
    sdist = next(folder.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    hatchling(folder / sdist.name.removesuffix(".tar.gz"), folder / "again", "-t", "wheel")
    return Built(next(folder.glob(WHEEL)), sdist, next(folder.glob(f"again/{WHEEL}")))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and with the libraries of this one: no index is asked for anything."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install, str(built.wheel)], check=True)
    # The .pth files over there are not read, so the editable install of this repository is no part of it.
    (site_packages(environment) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return environment


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def files_of_the_repository() -> set[str]:
    """Every file of the package, by its place in it."""
    return {
        os.path.relpath(Path(folder, file), ROOT)
        for folder, _, files in os.walk(ROOT / "sluice", followlinks=True)
        if NOT_INSTALLED.isdisjoint(Path(folder).parts)
        for file in files
    }


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.startswith("sluice_gateway-")}


def run(environment: Path, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What a command of the environment prints. Nothing of this process's own path reaches it."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(env or {})
    command = (str(environment / "bin" / command[0]), *command[1:])
    return subprocess.run(
        command, cwd=cwd, env=variables, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_a_wheel_has_every_file_of_the_package_and_no_other(built: Built) -> None:
    assert files_of(built.wheel) == files_of_the_repository()
    assert {"sluice/py.typed", "sluice/gateway/grpc/health.proto", "sluice/loadgen/cli.py"} <= files_of(built.wheel)


def test_an_sdist_has_folders_where_the_repository_has_links(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    top = built.sdist.name.removesuffix(".tar.gz")
    assert {member.name.removeprefix(f"{top}/") for member in members} == files_of_the_repository() | {
        ".gitignore",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
    }


def test_the_wheel_of_an_sdist_is_the_wheel_of_the_repository(built: Built) -> None:
    assert built.wheel_of_sdist.read_bytes() == built.wheel.read_bytes()


def test_one_name_is_taken_in_an_environment(installed: Path) -> None:
    there = {entry.name for entry in site_packages(installed).iterdir()}
    assert {name for name in there if not name.endswith(".dist-info")} == {"sluice", "libraries.pth"}
    assert [name.partition("-")[0] for name in there if name.endswith(".dist-info")] == ["sluice_gateway"]


def test_the_installed_command_imports_what_is_installed(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "sluice", "--version", cwd=tmp_path).startswith("sluice, version ")
    assert "server.port" in run(installed, "sluice", "config", cwd=tmp_path)
    asked = "import sluice.gateway.cli, sluice.loadgen.cli, sluice.inference.workers.pool as pool; print(pool.__file__)"
    place = run(installed, "python", "-P", "-c", asked, cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(site_packages(installed))


def test_the_installed_command_starts_workers(installed: Path, tmp_path: Path) -> None:
    """Where others' packages of the rooms' names come first on the path, too."""
    for name in ("gateway", "batching", "cache", "inference", "loadgen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(7)\n")
    command = ("sluice", "profile", str(EXAMPLES), "--model", "linear", "--json")
    printed = run(installed, *command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert "linear" in json.dumps(json.loads(printed))


def test_the_image_is_made_of_every_room() -> None:
    """A link whose room is missing would only be missed when the image is built."""
    rooms = {link.name for link in (ROOT / "sluice").iterdir() if link.is_symlink()}
    assert rooms == {"gateway", "batching", "cache", "inference", "loadgen"}
    dockerfile = (ROOT / "Dockerfile").read_text().splitlines()
    context = (ROOT / ".dockerignore").read_text().splitlines()
    for folder in rooms | {"sluice"}:
        assert f"COPY {folder} {folder}" in dockerfile
        assert f"!{folder}" in context
