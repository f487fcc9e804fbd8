"""Work in a thread that has ended by the time its caller goes on, even if the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(threads: Executor, work: Callable[..., T], *arguments: Any) -> T:
    """The result of the work.

    If the caller is cancelled, this waits for work that has begun, since it uses what the caller closes next.
    """
    job = threads.submit(work, *arguments)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        await _ended(job)
        raise


async def _ended(job: Future[Any]) -> None:
    if job.cancel():
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(over.set))
    while not over.is_set():
        with suppress(asyncio.CancelledError):  # the caller is being cancelled already
            await over.wait()
