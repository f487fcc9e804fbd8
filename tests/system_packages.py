"""Commands that come with the system: installed where the tests may, skipped with a reason elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def command(name: str, package: str) -> str:
    """The path of a command that the Debian package has. Skips the test if it is not there and cannot be installed."""
    if (found := shutil.which(name)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        for step in (["apt-get", "update", "-qq"], install):
            subprocess.run(step, capture_output=True, timeout=100, check=False)
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip(f"{name} is not installed, and could not be: apt-get install {package}")
