from __future__ import annotations

import asyncio
import os
import signal

from sluice.gateway.process.signals import StopSignals


async def test_a_signal_is_for_the_innermost_handler() -> None:
    signals, outer, inner = StopSignals(), list[int](), asyncio.Queue[int]()
    with signals.caught(), signals.handled_by(outer.append):
        with signals.handled_by(inner.put_nowait):
            os.kill(os.getpid(), signal.SIGINT)
            assert await asyncio.wait_for(inner.get(), 10) == signal.SIGINT
        assert outer == []


async def test_the_former_handler_is_back_after_the_block() -> None:
    signals, outer = StopSignals(), asyncio.Queue[int]()
    with signals.caught(), signals.handled_by(outer.put_nowait):
        with signals.handled_by(lambda number: None):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(outer.get(), 10) == signal.SIGTERM


async def test_without_a_handler_a_signal_does_nothing() -> None:
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    try:
        with StopSignals().caught():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(seen.wait(), 10)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
