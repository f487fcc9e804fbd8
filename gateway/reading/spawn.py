"""Starting a reader process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import sluice
from sluice.gateway.reading.messages import ANSWERS, ReaderAnswer
from sluice.inference.transport.channel import Channel
from sluice.inference.workers.spawn import fresh

NICENESS = 5
"""The nice value of a reader: where the processors are busy, it gets a third of the event loop's share."""

# It is started as a worker is: with the gateway's own packages, whatever else on the path has the same names. It is
# nice from the first step on, since its imports take a fifth of a second.
_BOOT = (
    f"import os, sys; os.nice({NICENESS}); sys.path.insert(0, sys.argv[1]); import sluice; "
    "del sys.path[0]; from sluice.gateway.reading.reader import main; main(*map(int, sys.argv[2:]))"
)
_PACKAGES = str(Path(sluice.__file__).parent.parent)


async def spawn() -> tuple[asyncio.subprocess.Process, Channel[ReaderAnswer]]:
    """A reader that waits for its first order, and the channel to it. Raises `OSError`."""
    return await fresh(_BOOT, _PACKAGES, ANSWERS, os.getpid())
