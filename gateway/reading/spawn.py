"""Starting a reader process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import sluice
from sluice.gateway.reading.messages import ANSWERS, Answer
from sluice.inference.transport.channel import Channel
from sluice.inference.workers.spawn import fresh

NICENESS = 5
"""How far a reader stands back where the processors are busy: a third of the event loop's share."""

# As a worker is started: the packages are those that the gateway has, whatever else on the path is called so. It
# stands back from its first step on: what it imports takes a fifth of a second.
_BOOT = (
    f"import os, sys; os.nice({NICENESS}); sys.path.insert(0, sys.argv[1]); import sluice; "
    "del sys.path[0]; from sluice.gateway.reading.reader import main; main(*map(int, sys.argv[2:]))"
)
_PACKAGES = str(Path(sluice.__file__).parent.parent)


async def spawn() -> tuple[asyncio.subprocess.Process, Channel[Answer]]:
    """A reader that waits for its first order, and the channel to it, as `fresh` makes them."""
    return await fresh(_BOOT, _PACKAGES, ANSWERS, os.getpid())
