"""The commands of `docs/migrating.md`, sent as they stand, give the answers that stand below them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.server import PATIENCE_S, serving
from tests.integration.test_management_api import free_port

ROOT = Path(__file__).parents[2]
CURL = shutil.which("curl")
PAIRS = re.compile(r"\n    (curl [^\n]*(?:\\\n[^\n]*)*)\n\nanswers\n\n    ([^\n]*)\n")


def section(heading: str) -> str:
    text = (ROOT / "docs" / "migrating.md").read_text()
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_torchserves_users_are_taken_over_as_written() -> None:
    pairs = PAIRS.findall(section("From TorchServe"))
    assert len(pairs) == 6
    port = free_port()
    with serving(ROOT / "examples" / "models", "--management-port", port) as server:
        for command, answer in pairs:
            here = command.replace("http://127.0.0.1:8080", server.url).replace(":8081/", f":{port}/")
            done = subprocess.run(
                [*shlex.split(here), "-sS"], capture_output=True, text=True, timeout=PATIENCE_S, check=True
            )
            assert done.stdout == answer, command
