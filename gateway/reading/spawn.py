"""Starting a reader process."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import gateway
from gateway.reading.messages import ANSWERS, Answer
from inference.spawn import end, kill
from inference.wire import Channel, connected

NICENESS = 5
"""How far a reader stands back where the processors are busy: a third of the event loop's share."""

# As a worker is started: the packages are those that the gateway has, whatever else on the path is called so. It
# stands back from its first step on: what it imports takes a fifth of a second.
_BOOT = (
    f"import os, sys; os.nice({NICENESS}); sys.path.insert(0, sys.argv[1]); import gateway, inference; "
    "del sys.path[0]; from gateway.reading.reader import main; main(*map(int, sys.argv[2:]))"
)
_PACKAGES = str(Path(gateway.__file__).parent.parent)


async def spawn() -> tuple[asyncio.subprocess.Process, Channel[Answer]]:
    """A fresh interpreter that waits for its first order, and the channel to it, which does not block.

    Raises `OSError` where none can be started.
    """
    ours, theirs = connected()
    ours.sends.setblocking(False)
    ours.receives.setblocking(False)
    descriptors = theirs.descriptors()
    creating = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _BOOT, _PACKAGES, *map(str, (*descriptors, os.getpid()))),
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )
    )
    try:
        # Shielded: event loops differ in what they leave of a process whose creation is cancelled.
        process = await asyncio.shield(creating)
    except asyncio.CancelledError:
        ours.close()
        with suppress(OSError):
            kill(await creating)
            await end(creating.result())
        raise
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, Channel(ours, ANSWERS)
