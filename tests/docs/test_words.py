"""One word for each thing: class names, the glossary and the rooms of `docs/architecture.md`, beside the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

PACKAGES = ("batching", "cache", "gateway", "inference", "loadgen")
MADE = "_pb2.py"
"""The end of the names of files that protoc made."""

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@cache
def sources() -> dict[Path, str]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {file.relative_to(ROOT): file.read_text() for file in files if not file.name.endswith(MADE)}


@cache
def words_of_sources() -> list[str]:
    """The words of each file, in lower case with a space around each: names are split where their words begin."""
    words = (re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text) for text in sources().values())
    return [f" {' '.join(found).lower()} " for found in words]


def section(heading: str) -> str:
    """The text below a heading of the second level, up to the next."""
    return ARCHITECTURE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def glossary() -> list[str]:
    return re.findall(r"\*\*([a-z ]+)\*\*", "\n".join(re.findall(r"^- .*(?:\n  .*)*", section("Words"), re.MULTILINE)))


def public_name(node: ast.stmt) -> str | None:
    """The name that a statement gives to a class or to an alias of types, if it is public."""
    match node:
        case ast.ClassDef(name=name) if not name.startswith("_"):
            return name
        case ast.AnnAssign(target=ast.Name(name), annotation=ast.Name("TypeAlias")) if not name.startswith("_"):
            return name
    return None


def test_public_names_of_types_are_unique() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for file, text in sources().items():
        for node in ast.parse(text).body:
            if (name := public_name(node)) is not None:
                places[name].append(str(file))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_word_is_explained_twice() -> None:
    words = glossary()
    assert len(words) > 30
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("word", glossary())
def test_a_word_of_the_glossary_is_used_in_the_code(word: str) -> None:
    stem = word.removesuffix("s")
    assert any(f" {stem} " in text or f" {stem}s " in text for text in words_of_sources())


def test_every_room_is_described_and_no_other() -> None:
    described = set(re.findall(r"`(\w+/[\w/]*)`", section("Rooms"))) - {"sluice/"}
    there = {f"{file.parent}/" for file in sources() if file.name == "__init__.py"}
    assert described == there


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    folders = "|".join((*PACKAGES, "benchmarks", "deploy", "docs", "examples", "grafana", "loadtests", "tests"))
    named = re.findall(rf"`((?:{folders})/[\w./-]*\w/?)`", (ROOT / page).read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_of_tests_that_a_page_names_without_their_folder_are_there(page: str) -> None:
    named = re.findall(r"`(test_\w+\.py)`", (ROOT / page).read_text())
    assert [name for name in named if not any((ROOT / "tests").rglob(name))] == []


@pytest.mark.parametrize("page", PAGES)
def test_log_lines_that_a_page_quotes_are_written(page: str) -> None:
    quoted = re.findall(r"[Ll]og line[s]? `([a-z ,]+)`", (ROOT / page).read_text())
    written = "\n".join(sources().values())
    assert [line for line in quoted if f'"{line}' not in written] == []
