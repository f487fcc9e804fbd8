"""Spoiled HTTP requests on many connections at a time, several on each, and an end for every one of them."""

from __future__ import annotations

import asyncio
import re
import time
from random import Random

from tests.hostile.house import READ_TIMEOUT_S
from tests.hostile.spoiled_requests import Wire
from tests.hostile.tally import Tally

CONNECTIONS, FOLLOWING = 24, 24
"""Connections at a time, and the most requests on each before the one that spoils the connection."""

QUIET_S = 0.25
"""After so long without a byte the caller says that it will send no more."""

PATIENT_SHARE = 0.01
"""Of the connections: these say nothing, and it is the server that must end them."""

MOST_S = READ_TIMEOUT_S + 28.0
"""No connection may last longer: the read timeout, the time of a call, and some for a busy machine."""

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


async def storm(port: int, inputs: int, seed: int) -> Tally:
    """Send so many requests. A connection that the server does not end in time is a fault, as is a 5xx."""
    tally = Tally("http")

    async def caller(number: int) -> None:
        chance = Random(f"{seed} http {number}")
        wire = Wire(chance)
        while tally.total < inputs:
            await _connection(port, chance, wire, tally)

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(caller(number))
    return tally


async def _connection(port: int, chance: Random, wire: Wire, tally: Tally) -> None:
    parts = []
    for _ in range(chance.randrange(FOLLOWING)):
        kind, part = wire.framed()
        parts.append(part)
        tally.sent(kind)
    kind, part = wire.unframed()
    parts.append(part)
    tally.sent(kind)
    content = b"".join(parts)
    started_s = time.perf_counter()
    try:
        async with asyncio.timeout(MOST_S):
            received = await _exchanged(port, chance, content, len(parts))
    except TimeoutError:
        tally.fault("the connection did not end", content)
        return
    except ConnectionRefusedError:
        tally.fault("the door is closed", content)
        await asyncio.sleep(0.5)
        return
    seconds = time.perf_counter() - started_s
    for status in STATUS.findall(received):
        if tally.answered(status.decode(), seconds):
            tally.fault(f"status {status.decode()}", content)


async def _exchanged(port: int, chance: Random, content: bytes, requests: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    patient = chance.random() < PATIENT_SHARE
    try:
        at = 0
        while at < len(content):
            size = chance.choice((1, 50, 1000)) if chance.random() < 0.05 else len(content)
            writer.write(content[at : at + size])
            await writer.drain()
            at += size
        while True:
            try:
                async with asyncio.timeout(None if patient else QUIET_S):
                    piece = await reader.read(1 << 16)
            except TimeoutError:
                if chance.random() < 0.5:
                    break  # gone, whatever may be on its way
                writer.write_eof()
                patient = True
                continue
            if not piece:
                break
            received += piece
            if len(STATUS.findall(received)) >= requests and not patient:
                break
    except (ConnectionError, OSError):
        pass
    finally:
        if chance.random() < 0.3:
            writer.transport.abort()
        writer.close()
    return bytes(received)
