"""A real Prometheus that scrapes one gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.redis_server import free_port
from tests.system_packages import command

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}/recording.yml, {rules}/alerts.yml]
scrape_configs:
  - job_name: sluice
    static_configs: [{{targets: ["{target}"]}}]
"""
RULES = Path(__file__).parents[2] / "deploy" / "prometheus"


class Prometheus:
    """One server, and what it knows."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now. Fails the test for one that Prometheus does not take."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def scrapes(self) -> int:
        """How often the gateway has been scraped with success."""
        found = self.query('sum(count_over_time(up{job="sluice"}[1h]))')
        return int(float(found[0]["value"][1])) if found else 0


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with Sluice's rules that scrapes `target` (host:port) every second."""
    binary = command("prometheus", "prometheus")
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES, target=target))
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([binary, *options, f"--web.listen-address=127.0.0.1:{port}"], stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)
