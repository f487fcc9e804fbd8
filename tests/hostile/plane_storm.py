"""Spoiled bodies of every dialect without a socket between: the gateway as an ASGI application, with real workers.

`python -m tests.hostile.plane_storm MODELS INPUTS SEED` is a process of its own, so that what ends it is seen. It
writes its `Outcome` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psutil

from sluice.gateway.assembly import Gateway
from sluice.gateway.process.application import application
from sluice.gateway.settings.load import load_settings
from sluice.gateway.telemetry.logs import configure_logs
from sluice.inference.repository.scan import scan
from tests import hostile_bodies
from tests.hostile.spoiled_requests import HEADERS, Wire
from tests.hostile.tally import Tally

CALLERS = 64
HTTP = tuple(each for each in hostile_bodies.PROTOCOLS if each != "grpc")
ODD_HEADERS = ("Content-Type", "Accept", "Inference-Header-Content-Length", "Accept-Encoding", "Cache-Control")

Line = tuple[bytes, bytes]
MOST_S = 30.0
KNOWN_EVERY = 50
SETTLED_SHARE = 0.3
"""After this share of the inputs caches are full and allocators have grown: what is held then is the measure."""


class Outcome(msgspec.Struct):
    """Of a whole run. `grown_bytes` is what the process held at its end above what it held once it had settled."""

    inputs: dict[str, int]
    answers: dict[str, int]
    faults: dict[str, int]
    told: list[str]
    worst_s: float
    known: int
    grown_bytes: float


class PlaneStorm:
    """Sends so many inputs to one application, and a known call in between."""

    def __init__(self, app: Any, inputs: int) -> None:
        self._app, self._inputs = app, inputs
        self.tally = Tally("structure")
        self.known = 0
        self.settled_bytes = 0.0

    async def caller(self, seed: str) -> None:
        chance = Random(seed)
        wire = Wire(chance, pages_share=0.02)
        turn = 0
        while self.tally.total < self._inputs:
            turn += 1
            kind, method, target, headers, body = _drawn(chance, wire)
            self.tally.sent(kind)
            await self._told(method, target, headers, body)
            if not turn % KNOWN_EVERY:
                await self._asked(chance.randrange(9973))
            if not self.settled_bytes and self.tally.total > self._inputs * SETTLED_SHARE:
                self.settled_bytes = psutil.Process().memory_info().rss

    async def _told(self, method: str, target: str, headers: Sequence[Line], body: bytes) -> None:
        started_s = time.perf_counter()
        told = f"{method} {target} {headers} ".encode() + body
        try:
            async with asyncio.timeout(MOST_S):
                status, _ = await self._answer(method, target, headers, body)
        except TimeoutError:
            self.tally.fault("the call did not end", told)
        except Exception as error:
            self.tally.fault(f"raised {type(error).__name__}: {error}"[:200], told)
        else:
            if self.tally.answered(str(status), time.perf_counter() - started_s):
                self.tally.fault(f"status {status}", told)

    async def _asked(self, x: int) -> None:
        body = msgspec.json.encode({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]}]})
        headers = [(b"cache-control", b"no-store")] if x % 2 else []
        status, answer = await self._answer("POST", "/v2/models/linear/infer", headers, body)
        self.known += 1
        if status != 200 or msgspec.json.decode(answer)["outputs"][0]["data"] != [2 * x - 1]:
            self.tally.fault(f"a known call was answered with {status} {answer[:100]!r}", body)

    async def _answer(self, method: str, target: str, headers: Sequence[Line], body: bytes) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"x"), (b"content-length", b"%d" % len(body)), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        rest = [{"type": "http.request", "body": body, "more_body": False}]
        status, parts = 0, []

        async def receive() -> dict[str, Any]:
            return rest.pop() if rest else await asyncio.get_running_loop().create_future()

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(bytes(message.get("body", b"")))

        await self._app(scope, receive, send)
        return status, b"".join(parts)


def _drawn(chance: Random, wire: Wire) -> tuple[str, str, str, Sequence[Line], bytes]:
    """What it is called, method, target, headers and body: half of them made anew, half of valid requests."""
    if chance.random() < 0.5:
        case = hostile_bodies.case_of(chance.getrandbits(32), 0, HTTP)
        return (
            case.protocol,
            case.method,
            case.target,
            [(name.lower(), value) for name, value in case.headers],
            case.body,
        )
    kind, request, body = wire.request()
    headers = dict(request.headers)
    if chance.random() < 0.1:
        name = chance.choice(ODD_HEADERS)
        headers[name] = chance.choice(HEADERS[name])
    lines = [(name.lower().encode(), value.encode("utf-8", "replace")) for name, value in headers.items()]
    return kind, request.method, request.target, lines, body


async def main(models: Path, inputs: int, seed: int) -> Outcome:
    settings = load_settings({}).settings
    configure_logs("json", settings.logs.level)
    found = scan(models)
    async with Gateway(settings, getattr(found, "versions", found)) as gateway:
        storm = PlaneStorm(application(gateway), inputs)
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(storm.caller(f"{seed} structure {number}"))
        tally = storm.tally
        grown_bytes = psutil.Process().memory_info().rss - storm.settled_bytes
    return Outcome(
        dict(tally.inputs), dict(tally.answers), dict(tally.faults), tally.told, tally.worst_s, storm.known, grown_bytes
    )


if __name__ == "__main__":
    outcome = asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
