"""The targets of the Makefile that a newcomer tries first."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def make(folder: Path, target: str) -> str:
    """What a target prints in a folder that has nothing but the Makefile, and where no Python could be used."""
    shutil.copy(MAKEFILE, folder)
    command = ["make", "--no-print-directory", target, "PYTHON=false", "UV=false"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_help_lists_every_target_and_installs_nothing(tmp_path: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert phony
    listed = dict(line.split(maxsplit=1) for line in make(tmp_path, "help").splitlines())
    assert sorted(listed) == sorted(phony[1].split())
    assert all(listed.values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["Makefile"]


def test_clean_removes_what_tools_leave_and_installs_nothing(tmp_path: Path) -> None:
    for name in ("build", ".mypy_cache", "room/__pycache__", ".venv/lib/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    make(tmp_path, "clean")
    left = {str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")}
    assert left == {"Makefile", "room", ".venv", ".venv/lib", ".venv/lib/__pycache__"}


@pytest.mark.parametrize("target", ["run", "test"])
def test_a_python_that_is_too_old_is_told(tmp_path: Path, target: str) -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        make(tmp_path, target)
    assert "Sluice needs Python 3.11 or newer, and false is not" in failed.value.stderr
