"""Connections of spoiled HTTP/2 at gRPC's door, and a known call by hand again and again to see that it is open."""

from __future__ import annotations

import asyncio
import time
from random import Random

from tests.hostile.frames import KNOWN, OPENING, Frames, call
from tests.hostile.tally import Tally

CONNECTIONS = 16
QUIET_S = 0.01
ASKED_EVERY = 200
MOST_S = 30.0
CLOSED_S = 10.0
"""A door that does not open again within this time ends the storm: there is nothing left to attack."""

ANSWER = bytes.fromhex("0000a040")
"""5.0, as it stands raw at the end of the answer to `KNOWN`."""


async def storm(port: int, inputs: int, seed: int) -> Tally:
    """Send so many faulty frames or runs of them. A door that is closed, however shortly, is a fault."""
    tally = Tally("frames")
    recent: list[bytes] = []
    over = asyncio.Event()

    async def caller(number: int) -> None:
        chance = Random(f"{seed} frames {number}")
        made = Frames(chance)
        turn = 0
        while tally.total < inputs and not over.is_set():
            turn += 1
            kinds, content = made.connection()
            recent.append(content)
            del recent[:-CONNECTIONS]
            for kind in kinds:
                tally.sent(kind)
            try:
                async with asyncio.timeout(MOST_S):
                    await _exchanged(port, chance, content)
                    if turn % (ASKED_EVERY // 10) == 0 and not await asks(port):
                        tally.fault("a known call had no answer", content)
            except TimeoutError:
                tally.fault("the connection did not end", content)
            except ConnectionRefusedError:
                for each in recent:
                    tally.fault("the door is closed", each)
                if not await _opened(port):
                    over.set()

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(caller(number))
    if over.is_set():
        tally.fault(f"the door stayed closed for {CLOSED_S:g} s, and {inputs - tally.total:,} inputs were not sent")
    return tally


async def asks(port: int) -> bool:
    """Whether the known call, on a connection of its own, has the known answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(OPENING + call(1, KNOWN))
        received = b""
        until_s = time.monotonic() + 20
        while ANSWER not in received and time.monotonic() < until_s:
            piece = await reader.read(1 << 16)
            if not piece:
                return False
            received += piece
        return ANSWER in received
    except ConnectionRefusedError:
        raise
    except OSError:
        return False
    finally:
        writer.transport.abort()


async def _exchanged(port: int, chance: Random, content: bytes) -> None:
    """Send it, look at what comes until it is quiet, and go as clients do: with a word, or without."""
    _, writer = reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        await writer.drain()
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    if not await reader.read(1 << 16):
                        break
            except TimeoutError:
                break
    except ConnectionRefusedError:
        raise
    except OSError:
        pass
    finally:
        if chance.random() < 0.5:
            writer.transport.abort()
        writer.close()


async def _opened(port: int) -> bool:
    until_s = time.monotonic() + CLOSED_S
    while time.monotonic() < until_s:
        await asyncio.sleep(0.1)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            continue
        writer.close()
        return True
    return False
