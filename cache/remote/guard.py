"""A breaker together with the task that tries the failing service again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from sluice.cache.remote.breaker import Breaker, BreakerState
from sluice.cache.remote.redis_link import CacheUnavailable


class Guard:
    """Says whether a service is to be used, and tries it in the background while it is not. An async context manager.

    `attempt` gets the service ready and tries it; it raises `CacheUnavailable`. Entering waits for the first attempt,
    however it ends. `on_change` hears the new state, and why, once a failure lasts for more than a moment, and when
    that is over.
    """

    def __init__(
        self,
        attempt: Callable[[], Awaitable[None]],
        on_change: Callable[[BreakerState, str | None], None],
        clock: Callable[[], float],
    ) -> None:
        self._attempt = attempt
        self._on_change = on_change
        self._clock = clock
        self._breaker = Breaker(random.random)
        self._trying: asyncio.Task[None] | None = None
        self._told = False
        self.last_error: str | None = None
        """Why the last failure was one."""

    async def __aenter__(self) -> Self:
        await self._try()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._trying is not None:
            self._trying.cancel()
            with suppress(asyncio.CancelledError):
                await self._trying

    @property
    def state(self) -> BreakerState:
        """What is done with the service."""
        return self._breaker.state

    @property
    def closed(self) -> bool:
        """Whether the service is to be used."""
        return self._breaker.state is BreakerState.CLOSED

    def failed(self, error: CacheUnavailable) -> None:
        """A use of the service has failed. It is left alone from now on, and tried soon."""
        if not self.closed:
            return
        self._note(error)
        if self._trying is None:
            self._trying = asyncio.get_running_loop().create_task(self._try_again())

    async def _try(self) -> None:
        self._breaker.trying()
        try:
            await self._attempt()
        except CacheUnavailable as error:
            self._note(error)
            if self._trying is None:
                self._trying = asyncio.get_running_loop().create_task(self._try_again())
        else:
            self._breaker.succeeded()
            if self._told:
                self._told = False
                self._on_change(BreakerState.CLOSED, None)

    async def _try_again(self) -> None:
        while not self.closed:
            await asyncio.sleep(max(0.0, self._breaker.try_at_s - self._clock()))
            await self._try()
        self._trying = None

    def _note(self, error: CacheUnavailable) -> None:
        self.last_error = str(error)
        self._breaker.failed(self._clock())
        if self._breaker.persists and not self._told:
            self._told = True
            self._on_change(BreakerState.OPEN, self.last_error)
