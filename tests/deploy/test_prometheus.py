"""Prometheus' configuration, rules and alerts hold what they promise, and speak of metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_metrics import families
from tests.system_packages import command

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known_series() -> set[str]:
    """Every name that an expression may use."""
    histograms = {family.name for family in families() if family.kind == "histogram"}
    names = {family.name for family in families()} - histograms
    names |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    return names | {rule["record"] for rule in rules("recording.yml")}


def test_every_metric_in_a_rule_exists() -> None:
    used = set()
    for rule in rules("recording.yml") + rules("alerts.yml"):
        used |= set(re.findall(r"(?:[a-z]+:)?sluice_\w+(?::\w+)?", rule["expr"]))
    assert used
    assert used <= known_series()


def test_every_alert_has_its_heading_in_the_runbook_and_every_heading_its_alert() -> None:
    alerts = rules("alerts.yml")
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert [alert["alert"] for alert in alerts] == headings
    for alert in alerts:
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in {"page", "ticket"}


@pytest.fixture(scope="module")
def promtool() -> str:
    return command("promtool", "prometheus")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", PROMETHEUS / "prometheus.yml"),
        ("check", "rules", PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"),
        ("test", "rules", Path(__file__).with_name("alerts.test.yml")),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_promtool_is_content(promtool: str, arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
