"""What the tests of the tiers in Redis share: counts, patience, and waiting for what happens elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sluice.cache.report import TierCounts

SPACE = "0123456789abcdef"

PATIENT: dict[str, Any] = {"timeout_s": 5.0, "connect_timeout_s": 5.0}
"""For what is to succeed, however slow the machine is."""


def counts() -> TierCounts:
    return TierCounts(lambda seconds: None)


async def until(condition: Callable[[], bool]) -> None:
    """Return once something has happened that another process or task does."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what happens elsewhere sets no event here
            await asyncio.sleep(0.002)
