"""Names are looked up one at a time, and by nobody who has to be waited for."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from sluice.cache.remote.host_name import HostName


class Resolver:
    """Answers when it is told to."""

    def __init__(self, error: OSError | None = None) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self._error = error

    def __call__(self, host: str, port: None) -> object:
        self.asked += 1
        assert self.may_answer.wait(60)
        if self._error is not None:
            raise self._error
        return []


async def test_who_asks_while_a_lookup_is_under_way_waits_for_that_one() -> None:
    resolver = Resolver()
    name = HostName("redis", resolver)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await name.found()
    waiting = asyncio.gather(name.found(), name.found())
    resolver.may_answer.set()
    await waiting
    assert resolver.asked == 1

    await name.found()
    assert resolver.asked == 2


async def test_a_name_without_an_address_is_an_error_each_time() -> None:
    resolver = Resolver(socket.gaierror(-2, "Name or service not known"))
    resolver.may_answer.set()
    name = HostName("redis", resolver)
    for _ in range(2):
        with pytest.raises(OSError, match="not known"):
            await name.found()
    assert resolver.asked == 2


async def test_an_error_that_comes_when_all_have_gone_is_nobodys() -> None:
    resolver = Resolver(socket.gaierror(-3, "Temporary failure"))
    name = HostName("redis", resolver)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await name.found()
    resolver.may_answer.set()
    with pytest.raises(OSError, match="Temporary failure"):
        await name.found()
    assert reported == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(address: str) -> None:
    resolver = Resolver()
    await HostName(address, resolver).found()
    assert resolver.asked == 0
