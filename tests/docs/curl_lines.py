"""Commands in the documentation: an indented `curl …`, a line `answers`, and the answer, indented and on one line."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.server import PATIENCE_S

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
CURL = shutil.which("curl")
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
"""A block in which lines after `$ ` are commands, and those below them what they print."""

PAIRS = re.compile(r"\n    (curl [^\n]*(?:\\\n[^\n]*)*)\n\nanswers\n\n    ([^\n]*)\n")


def section(page: str, heading: str) -> str:
    """The text of a page below a heading of the second level, up to the next."""
    return (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def curl(command: str, addresses: Mapping[str, str]) -> str:
    """What a command answers, with the addresses of the documentation replaced by those of a server that runs."""
    for written, here in addresses.items():
        command = command.replace(written, here)
    done = subprocess.run(
        [*shlex.split(command), "-sS"], cwd=DOCS.parent, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return done.stdout


def shell(command: str, addresses: Mapping[str, str]) -> str:
    """What a whole command line prints, pipes and all, with addresses replaced in the same way."""
    for written, here in addresses.items():
        command = command.replace(written, here)
    done = subprocess.run(
        command, shell=True, cwd=DOCS.parent, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    return done.stdout
