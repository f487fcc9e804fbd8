"""For every test: hypothesis does not look at the clock, and what takes minutes is asked for by its marker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

ASKED_FOR = ("nightly", "hostile")

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    for name in ASKED_FOR:
        if name not in config.getoption("markexpr"):
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(pytest.mark.skip(reason=f"takes minutes: make test-{name}, or pytest -m {name}"))
