"""The whole stack takes minutes, root and an engine, so its test runs only where it is asked for by its marker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

ASK = "builds images and runs the whole stack, which takes minutes: make test-stack, or pytest -m stack"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    if "stack" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("stack"):
                item.add_marker(pytest.mark.skip(reason=ASK))
