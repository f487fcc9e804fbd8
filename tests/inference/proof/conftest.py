"""Long searches run only where they are asked for by their marker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

ASK = "searches for minutes: make test-nightly, or pytest -m nightly"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    if "nightly" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason=ASK))
