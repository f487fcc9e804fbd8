from __future__ import annotations

import asyncio

from sluice.gateway.serving.drain import Drain


async def test_everybody_who_waits_notices_once_it_has_begun() -> None:
    drain = Drain()
    waiting = [asyncio.create_task(drain.noticed()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not drain.begun
    assert not any(each.done() for each in waiting)
    drain.begin()
    drain.begin()
    await asyncio.gather(*waiting)
    assert drain.begun
    await drain.noticed()
