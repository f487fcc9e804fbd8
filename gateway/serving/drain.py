"""Whether the gateway is shutting down."""

from __future__ import annotations

import asyncio


class Drain:
    """Whether the gateway is shutting down. It begins once and never ends."""

    def __init__(self) -> None:
        self.begun = False
        self._noticed = asyncio.Event()

    def begin(self) -> None:
        """From now on the gateway says that it is not ready, and asks its clients to connect elsewhere."""
        self.begun = True
        self._noticed.set()

    async def noticed(self) -> None:
        """Return once the drain has begun."""
        await self._noticed.wait()
