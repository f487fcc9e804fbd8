"""The image and the stack, as far as they can be judged without running them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
STACK: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, Any] = STACK["services"]


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/compose/tls.yml"])
def test_it_keeps_to_the_specification(file: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(ROOT / file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_dockerfile_has_no_known_fault() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([str(linter), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_kept_within_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit", "pids_limit", "logging", "restart"} <= set(service)
    assert name == "gateway" or {"healthcheck"} <= set(service)  # the image has the gateway's
    for port in service.get("ports", ()):
        assert port.startswith("${BIND:-127.0.0.1}:")


def test_redis_is_reached_by_the_gateway_alone() -> None:
    assert STACK["networks"]["back"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "back" in service["networks"]] == ["gateway", "redis"]
    assert "ports" not in SERVICES["redis"]


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in STACK["volumes"], source


def test_prometheus_scrapes_the_service_and_loads_the_same_rules() -> None:
    here, there = (
        yaml.safe_load((ROOT / file).read_text())
        for file in ("deploy/prometheus/prometheus.yml", "deploy/compose/prometheus.yml")
    )
    (job,) = there["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    here["scrape_configs"][0]["static_configs"] = job["static_configs"]
    assert there == here


def test_the_image_is_of_tracked_files_only() -> None:
    text = (ROOT / "Dockerfile").read_text()
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert copied
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path}" in ignore
