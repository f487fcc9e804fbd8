"""Whatever the OpenAPI document lets a client send, and much that it does not: no answer is a server error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.server import SluiceProcess

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_no_call_that_the_document_describes_ends_in_a_server_error(examples: SluiceProcess, tmp_path: Path) -> None:
    """Every path that is added to the document is tried, by examples, by boundaries and by chance."""
    command = [str(SCHEMATHESIS), "run", f"{examples.url}/openapi.json", "--checks", "not_a_server_error"]
    bounds = ["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1", "--request-timeout", "20"]
    tried = subprocess.run(
        [*command, *bounds, "--generation-database", "none", "--no-color", "--suppress-health-check", "all"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=tmp_path,
    )
    assert tried.returncode == 0, tried.stdout[-4000:] + tried.stderr[-1000:]
    assert examples.client.get("/v2/health/ready").status_code == 200
