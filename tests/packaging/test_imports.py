"""The rooms are imported through the package: installed, nothing is at the top but `sluice`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("batching", "cache", "gateway", "inference", "loadgen")
FOLDERS = (*ROOMS, "sluice", "benchmarks", "examples", "grafana", "loadtests", "tests")
MADE = "_pb2.py"
"""The end of the names of files that protoc made."""

BARE = re.compile(rf"\b(?:from|import)\s+(?:{'|'.join(ROOMS)})\b")


def python_files() -> Iterator[Path]:
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            if not file.name.endswith(MADE):
                yield file


def bare_imports(source: str) -> list[str]:
    """The rooms that a file imports as if they were packages of their own."""
    if BARE.search(source) is None:  # reading trees of all files takes seconds
        return []
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
    return [name for name in found if name.partition(".")[0] in ROOMS]


def test_rooms_are_imported_through_the_package() -> None:
    bare = {str(file.relative_to(ROOT)): found for file in python_files() if (found := bare_imports(file.read_text()))}
    assert bare == {}


def test_a_bare_import_is_found() -> None:
    assert bare_imports("import os\nfrom gateway.messages import Message") == ["gateway.messages"]
    assert bare_imports("def late() -> None:\n    import cache") == ["cache"]
    assert bare_imports("from sluice.gateway import messages\nimport sluice.cache as cache") == []
    assert bare_imports('"""What an import of the cache costs, from cache to cache."""') == []
