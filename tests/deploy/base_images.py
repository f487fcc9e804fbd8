"""What the stack's images are made from where there is no registry: two root file systems of Debian's packages.

They are made once, as root, and kept in the user's cache folder. How this machine's pip finds packages, and whom it
trusts, goes into them, so they stay here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice-stack"
DEBOOTSTRAP_S = 600
INSTALL_S = 300

OF_PIP = frozenset({"cert", "default-timeout", "extra-index-url", "index-url", "timeout", "trusted-host"})
"""Options of pip that a build needs, if this machine has them."""


class BaseImages(msgspec.Struct, frozen=True):
    """Tar files: Python alone, and Python with Redis and Prometheus."""

    python: Path
    services: Path


def base_images() -> BaseImages:
    """Those that were made before, or new ones. Raises `CalledProcessError` where Debian cannot be reached."""
    kept = BaseImages(CACHE / "python.tar", CACHE / "services.tar")
    if kept.python.exists() and kept.services.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="making-") as folder:
        root = Path(folder, "root")
        _debootstrap(root)
        _trust_as_here(root)
        _pack(root, kept.python)
        _install_services(root)
        _pack(root, kept.services)
    return kept


def _debootstrap(root: Path) -> None:
    # In a mount namespace of its own, so that nothing stays mounted whatever happens.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
    command += ["--include=python3,python3-venv,ca-certificates", "bookworm", str(root)]
    _run(command, DEBOOTSTRAP_S)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")


def _trust_as_here(root: Path) -> None:
    """Give the image what pip is set to here, without what lies on this machine's disk, and its authorities."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    options: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        name, value = key.rpartition(".")[2], quoted.strip("'\"")
        if name in OF_PIP and "file:" not in value:
            options[name] = value
    if (bundle := options.get("cert")) is not None:
        there = root / bundle.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.unlink(missing_ok=True)
        shutil.copy(bundle, there)
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *[f"{name} = {options[name]}" for name in options], ""]))


def _install_services(root: Path) -> None:
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # start nothing
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    packages = ["redis-server", "prometheus"]
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        _run(["chroot", str(root), "apt-get", *step], INSTALL_S, environment)
    # As in Prometheus's own image: it runs as nobody, who owns the folder that a new volume is made like.
    (root / "prometheus").mkdir()
    os.chown(root / "prometheus", 65534, 65534)


def _pack(root: Path, to: Path) -> None:
    for rubbish in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / rubbish, ignore_errors=True)
        (root / rubbish / "partial").mkdir(parents=True)
    unfinished = to.with_suffix(".part")
    _run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(unfinished), "."], INSTALL_S)
    unfinished.rename(to)


def _run(command: list[str], bound_s: float, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=bound_s, check=True, env=environment)
