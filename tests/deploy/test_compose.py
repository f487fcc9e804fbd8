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
DOCKERFILES = {"Dockerfile": "gateway", "loadtests/Dockerfile": "locust"}
"""Each with the service that it is for."""


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/compose/tls.yml"])
def test_it_keeps_to_the_specification(file: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(ROOT / file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("file", DOCKERFILES)
def test_the_dockerfile_has_no_known_fault(file: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([str(linter), str(ROOT / file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_kept_within_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit", "pids_limit", "logging", "restart"} <= set(service)
    assert name in DOCKERFILES.values() or {"healthcheck"} <= set(service)  # those images have their own
    for port in service.get("ports", ()):
        assert port.startswith("${BIND:-127.0.0.1}:")


def test_nobody_starts_before_what_it_needs_is_healthy() -> None:
    needed = {name: list(service.get("depends_on", ())) for name, service in SERVICES.items()}
    assert needed == {
        "gateway": ["redis"],
        "redis": [],
        "prometheus": ["gateway"],
        "grafana": ["prometheus"],
        "locust": ["gateway"],
    }
    for service in SERVICES.values():
        assert all(needs == {"condition": "service_healthy"} for needs in service.get("depends_on", {}).values())


def test_load_is_made_only_where_it_is_asked_for() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["locust"]
    assert SERVICES["locust"]["profiles"] == ["load"]


@pytest.mark.parametrize(("file", "service"), DOCKERFILES.items())
def test_an_image_exposes_what_its_service_publishes(file: str, service: str) -> None:
    exposed = re.findall(r"^EXPOSE (.*)$", (ROOT / file).read_text(), re.MULTILINE)
    assert exposed == [" ".join(port.rpartition(":")[2] for port in SERVICES[service]["ports"])]


def test_load_tests_are_installed_in_the_versions_that_are_tested() -> None:
    here, there = (_pinned(ROOT / file) for file in ("requirements-dev.lock", "requirements-load.lock"))
    assert "locust" in there
    assert {name: here[name] for name in there} == there


def _pinned(lock: Path) -> dict[str, set[str]]:
    pinned: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", lock.read_text(), re.MULTILINE):
        pinned.setdefault(name, set()).add(version)
    return pinned


def test_redis_is_reached_by_the_gateway_alone() -> None:
    assert STACK["networks"]["back"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "back" in service["networks"]] == ["gateway", "redis"]
    assert "ports" not in SERVICES["redis"]


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in STACK["volumes"], source


@pytest.mark.parametrize(
    ("file", "scheme"),
    [
        ("deploy/compose/prometheus.yml", {}),
        (
            "deploy/compose/prometheus-tls.yml",
            {"scheme": "https", "tls_config": {"insecure_skip_verify": True}},
        ),
    ],
)
def test_prometheus_scrapes_the_service_and_loads_the_same_rules(file: str, scheme: dict[str, Any]) -> None:
    here, there = (yaml.safe_load((ROOT / each).read_text()) for each in ("deploy/prometheus/prometheus.yml", file))
    (job,) = there["scrape_configs"]
    assert {name: job.pop(name) for name in scheme} == scheme
    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    here["scrape_configs"][0]["static_configs"] = job["static_configs"]
    assert there == here


def test_tls_reaches_all_who_call_the_gateway() -> None:
    overlay = yaml.safe_load((ROOT / "deploy/compose/tls.yml").read_text())["services"]
    callers = {name for name, service in SERVICES.items() if "gateway" in service.get("depends_on", {})}
    assert set(overlay) == {"gateway", *callers}
    (mounted,) = overlay["prometheus"]["volumes"]
    source, target, _ = mounted.split(":")
    assert (ROOT / source).exists()
    assert target in [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert overlay["locust"]["environment"]["LOCUST_HOST"] == "https://gateway:8000"


@pytest.mark.parametrize("file", DOCKERFILES)
def test_the_image_is_of_tracked_files_only(file: str) -> None:
    text = (ROOT / file).read_text()
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert copied
    for path in copied:
        assert (ROOT / path).exists()
        assert f"!{path}" in ignore
