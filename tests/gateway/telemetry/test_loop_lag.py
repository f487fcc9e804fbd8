"""How late the event loop is."""

from __future__ import annotations

import asyncio
import time

from sluice.gateway.telemetry.loop_lag import PERIOD_S, LoopLag
from tests.batching.virtual_time import VirtualTimeLoop


def test_an_idle_loop_is_never_late() -> None:
    lags: list[float] = []

    async def idle() -> None:
        async with LoopLag(lags.append):
            await asyncio.sleep(20.5 * PERIOD_S)
        await asyncio.sleep(10 * PERIOD_S)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(idle())
    assert len(lags) == 20
    assert max(lags) < 1e-6


async def test_a_loop_that_stood_still_says_for_how_long() -> None:
    lag_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def observe(value_s: float) -> None:
        if not lag_s.done():
            lag_s.set_result(value_s)

    async with LoopLag(observe):
        time.sleep(4 * PERIOD_S)  # noqa: ASYNC251  # that it blocks is the point
        assert await lag_s >= 2.9 * PERIOD_S
