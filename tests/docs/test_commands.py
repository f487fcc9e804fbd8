"""Commands in the README and the documentation: those with an answer give it, and the others can be given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from textwrap import indent

import click
import pytest

from sluice.gateway.cli import main
from tests.docs.curl_lines import CONSOLE, CURL, PAIRS, curl, shell
from tests.docs.pages import PAGES, ROOT
from tests.integration.server import SluiceProcess

ANSWERED = ("README.md", "docs/serving.md")
"""Pages whose commands go to the bundled models; other tests have those of `dialects.md` and `migrating.md`."""

FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
WRITTEN = "http://127.0.0.1:8000"


def commands(page: str, program: str) -> Iterator[list[str]]:
    """The words of each line that calls a program, whether indented, in a fence or in a sentence."""
    indented = FENCE.sub(lambda block: indent(block[1], "    "), (ROOT / page).read_text())
    text = re.sub(r" *\\\n\s*", " ", indented)
    found = re.findall(rf"(?:^ {{4,}}|`)(?:\.venv/bin/)?{program} ([^`\n]*)", text, re.MULTILINE)
    for rest in found:
        yield shlex.split(rest, comments=True)


@pytest.mark.skipif(CURL is None, reason="needs curl")
@pytest.mark.parametrize("page", ANSWERED)
def test_commands_are_answered_as_written(examples: SluiceProcess, page: str) -> None:
    pairs = PAIRS.findall((ROOT / page).read_text())
    assert pairs
    for command, answer in pairs:
        assert curl(command, {WRITTEN: examples.url}) == answer, command


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_the_cache_answers_as_written(examples: SluiceProcess) -> None:
    assert examples.client.delete("/admin/cache").status_code == 200
    (block,) = CONSOLE.findall((ROOT / "docs" / "cache.md").read_text())
    for step in block.removeprefix("$ ").split("\n$ "):
        command, _, answer = step.partition("\n")
        printed = shell(command, {WRITTEN: examples.url})
        assert printed.strip() == answer.strip(), command


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_commands_without_an_answer_are_answered_all_the_same(examples: SluiceProcess) -> None:
    for page in (*ANSWERED, "docs/operations.md"):
        to_examples = [words for words in commands(page, "curl") if any(WRITTEN in word for word in words)]
        assert to_examples
        for words in to_examples:
            curl(shlex.join(["curl", "--fail", *words]), {WRITTEN: examples.url})


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_that_a_page_names_are_there(page: str) -> None:
    for words in commands(page, "sluice"):
        if not words or not re.fullmatch(r"[a-z]+", words[0]):
            continue
        command = main.commands[words[0]]
        known = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        assert {word for word in words[1:] if re.match(r"--?[a-z]", word)} <= known, words


@pytest.mark.parametrize("page", PAGES)
def test_targets_and_modules_that_a_page_names_are_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for words in commands(page, "make") if words and re.fullmatch(r"[a-z-]+", words[0])}
    assert named <= targets
    for words in commands(page, "python -m"):
        assert words[0] in {"hatchling", "venv", "pip", "tf2onnx.convert"} or find_spec(words[0]), words
