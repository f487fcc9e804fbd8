"""Looks up the name of a host without being held up by a resolver that does not answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address


class HostName:
    """The name of a host, or its address, which needs no lookup.

    A lookup cannot be stopped, and one that nobody answers takes ten seconds or more. The event loop's own lookups
    would pile up behind each other, and the process could not end before the last was over. So here is one at a
    time, which all who ask wait for, in a thread that ends with the process.
    """

    def __init__(self, host: str, resolve: Callable[[str, None], object] = socket.getaddrinfo) -> None:
        self._host = host
        self._resolve = resolve
        self._under_way: asyncio.Future[None] | None = None

    async def found(self) -> None:
        """Return when the name has an address. May be cancelled at any time. Raises `OSError` if it has none."""
        if _is_address(self._host):
            return
        if self._under_way is None:
            self._under_way = self._looked_up()
        await asyncio.shield(self._under_way)

    def _looked_up(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        ended.add_done_callback(self._forget)

        def look_up() -> None:
            error: OSError | None = None
            try:
                self._resolve(self._host, None)
            except OSError as failure:
                error = failure
            with suppress(RuntimeError):  # the loop is closed: nothing waits any more
                loop.call_soon_threadsafe(settle, error)

        def settle(error: OSError | None) -> None:
            if not ended.done():
                ended.set_result(None) if error is None else ended.set_exception(error)

        threading.Thread(target=look_up, name="host-name", daemon=True).start()
        return ended

    def _forget(self, ended: asyncio.Future[None]) -> None:
        self._under_way = None
        if not ended.cancelled():
            ended.exception()  # read, so that asyncio does not log it, although all callers may have gone


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
