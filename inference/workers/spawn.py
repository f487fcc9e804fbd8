"""Starting a worker process, waiting until its model is loaded, and ending it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

import sluice
from sluice.inference.errors import ModelLoadError
from sluice.inference.transport.channel import Channel, PeerGone, WireError, connected
from sluice.inference.transport.messages import ANSWERS, Load, Loaded, LoadFailed, WorkerAnswer
from sluice.inference.workers.deaths import how_it_ended
from sluice.inference.workers.vitals import LOOK_S, STOPPED_LOOKS, vitals

EXIT_PATIENCE_S = 2.0
"""How long a worker whose sockets were closed has to end by itself."""

# The worker imports the package from where the gateway has it, even if its path has another one of that name. Then the
# folder is removed from the path, so that other imports are not affected.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); import sluice; del sys.path[0]; "
    "from sluice.inference.worker.main import main; main(*map(int, sys.argv[2:]))"
)
_PACKAGES = str(Path(sluice.__file__).parent.parent)

AnswerT = TypeVar("AnswerT")


async def spawn() -> tuple[asyncio.subprocess.Process, Channel[WorkerAnswer]]:
    """Starts a worker that waits for its first order, as `fresh` does. Raises `ModelLoadError`."""
    if sys.platform != "linux":
        raise ModelLoadError(f"worker processes need Linux (memory files, descriptor passing); this is {sys.platform}")
    try:
        return await fresh(_BOOT, _PACKAGES, ANSWERS)
    except OSError as error:
        raise _not_started(error) from error


async def fresh(
    boot: str, packages: str, answers: msgspec.msgpack.Decoder[AnswerT], *arguments: int
) -> tuple[asyncio.subprocess.Process, Channel[AnswerT]]:
    """Starts a fresh interpreter that runs `boot`. Returns the process, and the channel to it, which does not block.

    The arguments of `boot` are the folder of the packages, the descriptors of its two sockets, and `arguments`. The
    process is in a session of its own, so a terminal's Ctrl-C does not reach it. Its standard output goes to standard
    error. Raises `OSError` if it cannot be started.
    """
    ours, theirs = connected()
    ours.sends.setblocking(False)
    ours.receives.setblocking(False)
    descriptors = theirs.descriptors()
    creating = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", boot, packages, *map(str, (*descriptors, *arguments))),
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )
    )
    try:
        # Shielded: event loops differ in what they do with a process whose creation is cancelled.
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
    return process, Channel(ours, answers)


async def load(process: asyncio.subprocess.Process, channel: Channel[WorkerAnswer], order: Load) -> Loaded:
    """Makes the worker load its model. Raises `ModelLoadError`; the caller must then end the process.

    Raises it, too, for a replacement that was stopped by a signal: it would keep its place empty until the load times
    out. The first worker of a version may be stopped, since somebody may debug it.
    """
    try:
        channel.send(order)
        if order.known is None:
            await _readable(channel)
        else:
            await _readable_unless_stopped(process, channel, order)
        answer, _ = channel.receive()
    except PeerGone:
        ended = how_it_ended(await end(process))
        raise ModelLoadError(f"{order.model_file}: the worker process {ended} while it loaded the model") from None
    except WireError as error:
        raise ModelLoadError(f"{order.model_file}: the worker's answer cannot be read: {error}") from error
    if isinstance(answer, LoadFailed):
        raise ModelLoadError(f"{order.model_file}: {answer.message}")
    if not isinstance(answer, Loaded):
        raise ModelLoadError(f"{order.model_file}: the worker answered {type(answer).__name__} to Load")
    return answer


async def end(process: asyncio.subprocess.Process) -> int:
    """Waits until a worker whose sockets are closed has ended, and returns its exit code. Reaps the process.

    A process that does not end within `EXIT_PATIENCE_S` is killed; if the caller is cancelled, at once.
    """
    try:
        return await asyncio.wait_for(process.wait(), EXIT_PATIENCE_S)
    except TimeoutError:
        kill(process)
        return await process.wait()
    except asyncio.CancelledError:
        kill(process)
        await process.wait()
        raise


def kill(process: asyncio.subprocess.Process) -> None:
    """Kills the process, if it has not ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # process.kill() would reap it and lose its exit code


async def _readable_unless_stopped(
    process: asyncio.subprocess.Process, channel: Channel[WorkerAnswer], order: Load
) -> None:
    stopped = 0
    while not await _readable(channel, LOOK_S):
        seen = vitals(process.pid)
        stopped = stopped + 1 if seen is not None and seen.stopped else 0
        if stopped >= STOPPED_LOOKS:
            raise ModelLoadError(f"{order.model_file}: the worker process was stopped while it loaded the model")


async def _readable(channel: Channel[WorkerAnswer], patience_s: float | None = None) -> bool:
    """Waits until there is something to receive. False if there is nothing after `patience_s`."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(channel.fileno(), arrive)
    try:
        done, _ = await asyncio.wait([arrived], timeout=patience_s)
        return bool(done)
    finally:
        loop.remove_reader(channel.fileno())


def _not_started(error: OSError) -> ModelLoadError:
    return ModelLoadError(f"no worker process could be started: {error}")
