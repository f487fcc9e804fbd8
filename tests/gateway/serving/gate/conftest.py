from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.batching.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """Every asynchronous test of this folder runs in virtual time."""
    return {"virtual": VirtualTimeLoop}
