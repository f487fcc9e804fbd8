"""The commands of `docs/dialects.md`, sent as they stand, give the answers that stand below them."""

from __future__ import annotations

import re

import pytest

from sluice.gateway.settings.sections import ServerSettings
from tests.docs.curl_lines import CURL, DOCS, PAIRS, curl
from tests.integration.server import SluiceProcess

FOUND = PAIRS.findall((DOCS / "dialects.md").read_text())


def test_there_are_commands() -> None:
    assert any("/v1/models/linear:predict" in command for command, _ in FOUND)


def test_defaults_that_are_told_are_those_of_the_settings() -> None:
    told = re.findall(r"`server\.(\w+)` \(([0-9.]+)\)", (DOCS / "dialects.md").read_text())
    assert {"grpc_min_ping_interval_s", "grpc_keepalive_time_s", "grpc_keepalive_timeout_s"} <= dict(told).keys()
    for name, value in told:
        assert ServerSettings.model_fields[name].default == float(value), name


@pytest.mark.skipif(CURL is None, reason="needs curl")
@pytest.mark.parametrize(("command", "answer"), FOUND)
def test_a_command_is_answered_as_written(examples: SluiceProcess, command: str, answer: str) -> None:
    assert curl(command, {"http://127.0.0.1:8000": examples.url}) == answer
