"""What load tools see of a server whose stalls are known: `python -m benchmarks.stalls`.

The server answers at once, but does nothing at all for the first 0.4 s of every 1.5 s. A caller who comes every 5 ms,
and does not wait for others, meets a stall in 4 of 15 cases and waits between 0 and 0.4 s, evenly. So the truth is
known without any tool: mean 53 ms, p90 250 ms, p99 385 ms. `sluice load` is held against it; wrk (a closed loop), and
httperf (an open one, which gives no percentiles) run beside it where they are installed.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import click
import msgspec
import uvloop

from benchmarks.processes import SLUICE, Server, free_port, running
from sluice.loadgen.report import Report

STALL_S, PERIOD_S = 0.4, 1.5
RATE_PER_S = 200
CALLERS = 8
PATH = "/predict"
BODY = b'{"inputs": []}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

MEAN, P50, P90, P99, MAX = COLUMNS = ("mean ms", "p50 ms", "p90 ms", "p99 ms", "max ms")
Row: TypeAlias = Mapping[str, float]
"""Milliseconds by column; without those that a tool does not tell."""

TOLERANCES: Row = {MEAN: 5.0, P90: 12.0, P99: 8.0}


class Stalling(asyncio.Protocol):
    """Answers every request at once. Its requests come one at a time and whole, as they are small."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.WriteTransport, transport).write

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET") or data.endswith(BODY):
            self._write(ANSWER)


async def serve(port: int) -> None:
    """Serve for ever, and stop dead in every period."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stalling, "127.0.0.1", port, backlog=1024)
    async with server:
        begun_s = loop.time()
        while True:
            time.sleep(STALL_S)  # noqa: ASYNC251 -- a server that stops altogether is what this is about
            begun_s += PERIOD_S
            await asyncio.sleep(begun_s - loop.time())


def truth() -> Row:
    """What callers go through, who come evenly: a part of them waits, for a time that is spread evenly."""
    stalled = STALL_S / PERIOD_S

    def percentile_ms(part: float) -> float:
        return max(0.0, 1 - (1 - part) / stalled) * STALL_S * 1e3

    return {
        MEAN: stalled * STALL_S / 2 * 1e3,
        P50: percentile_ms(0.5),
        P90: percentile_ms(0.9),
        P99: percentile_ms(0.99),
        MAX: STALL_S * 1e3,
    }


def by_sluice(pattern: str) -> Callable[[Server, float], Row]:
    """The open loop of `sluice load`."""

    def measure(server: Server, duration_s: float) -> Row:
        with tempfile.TemporaryDirectory() as folder:
            body, report = Path(folder, "body"), Path(folder, "report.json")
            body.write_bytes(BODY)
            command = [str(SLUICE), "load", f"http://127.0.0.1:{server.port}{PATH}", "--body", str(body)]
            command += ["--rate", str(RATE_PER_S), "--pattern", pattern, "--warm-up", str(PERIOD_S)]
            command += ["--duration", str(duration_s), "--json", str(report), "--quiet"]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seen = msgspec.json.decode(report.read_bytes(), type=Report)
        if not seen.trusted:
            click.echo(f"sluice load: {seen.doubts}", err=True)
        ok = seen.figures.ok
        assert ok is not None
        return {MEAN: ok.mean_ms, P50: ok.p50_ms, P90: ok.p90_ms, P99: ok.p99_ms, MAX: ok.max_ms}

    return measure


def by_wrk(server: Server, duration_s: float) -> Row:
    """A closed loop that sends as fast as it gets answers, and corrects its figures afterwards."""
    command = ["wrk", "--threads=1", f"--connections={CALLERS}", f"--duration={int(duration_s)}", "--latency"]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{PATH}"], capture_output=True, text=True, check=True
    ).stdout
    found = {part: _ms_of(value) for part, value in re.findall(r"^ +(\d+)% +(\S+)$", output, re.MULTILINE)}
    stats = re.search(r"Latency +(\S+) +\S+ +(\S+)", output)
    assert stats, output
    return {MEAN: _ms_of(stats[1]), P50: found["50"], P90: found["90"], P99: found["99"], MAX: _ms_of(stats[2])}


def _ms_of(written: str) -> float:
    unit = written.lstrip("0123456789.")
    return float(written.removesuffix(unit)) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def by_callers(server: Server, duration_s: float) -> Row:
    """A closed loop at the same rate: callers with a pause, who are late after a stall and do not make up for it."""
    latencies = uvloop.run(_callers(server.port, duration_s))
    latencies.sort()

    def percentile(part: float) -> float:
        return latencies[int(part * (len(latencies) - 1))]

    return {
        MEAN: sum(latencies) / len(latencies),
        P50: percentile(0.5),
        P90: percentile(0.9),
        P99: percentile(0.99),
        MAX: latencies[-1],
    }


async def _callers(port: int, duration_s: float) -> list[float]:
    """Milliseconds of every call of `CALLERS` callers, each of whom waits for its answer before it pauses."""
    request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    latencies: list[float] = []
    end_s = time.monotonic() + duration_s

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end_s:
            sent_s = time.monotonic()
            writer.write(request)
            await reader.readexactly(len(ANSWER))
            latency_s = time.monotonic() - sent_s
            latencies.append(latency_s * 1e3)
            await asyncio.sleep(max(0.0, CALLERS / RATE_PER_S - latency_s))
        writer.close()

    await asyncio.gather(*[call() for _ in range(CALLERS)])
    return latencies


def by_httperf(server: Server, duration_s: float) -> Row:
    """An open loop with a connection for each request. Its "connection time" is from connecting to the answer."""
    command = ["httperf", "--server=127.0.0.1", f"--port={server.port}", f"--uri={PATH}", f"--rate={RATE_PER_S}"]
    command += [f"--num-conns={int(RATE_PER_S * duration_s)}", "--num-calls=1", "--timeout=10", "--hog"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Connection time \[ms\]: min \S+ avg (\S+) max (\S+) median (\S+)", output)
    assert found, output
    mean_ms, max_ms, median_ms = map(float, found.groups())
    return {MEAN: mean_ms, P50: median_ms, MAX: max_ms}


def measured(duration_s: float) -> dict[str, Row]:
    """The truth, and what each tool that is there makes of it, one after another on one server."""
    rows = {"the truth": truth()}
    tools: dict[str, tuple[str | None, Callable[[Server, float], Row]]] = {
        "`sluice load --pattern constant`": (None, by_sluice("constant")),
        "`sluice load --pattern poisson`": (None, by_sluice("poisson")),
        "httperf (open loop)": ("httperf", by_httperf),
        f"{CALLERS} callers who wait, {RATE_PER_S} requests/s (closed loop)": (None, by_callers),
        f"wrk, {CALLERS} connections (closed loop, corrected)": ("wrk", by_wrk),
    }
    port = free_port()
    with running([sys.executable, "-m", "benchmarks.stalls", "--serve", str(port)], port) as server:
        for name, (program, measure) in tools.items():
            if program is None or shutil.which(program):
                rows[name] = measure(server, duration_s)
            else:
                click.echo(f"{program} is not installed: apt-get install {program}", err=True)
    return rows


def wrong(row: Row) -> Sequence[str]:
    """Columns in which a row is not the truth."""
    return [column for column, bound_ms in TOLERANCES.items() if abs(row[column] - truth()[column]) > bound_ms]


@click.command()
@click.option("--seconds", default=15.0, show_default=True, help="Length of each run: whole periods of 1.5 s.")
@click.option("--serve", "port", type=int, hidden=True)
def main(seconds: float, port: int | None) -> None:
    """Hold load tools against a server whose stalls are known."""
    if port is not None:
        uvloop.run(serve(port))
    rows = measured(seconds)
    click.echo("| seen by | " + " | ".join(COLUMNS) + " |\n" + "| --- " * (len(COLUMNS) + 1) + "|")
    for name, row in rows.items():
        cells = [f"{row[column]:,.0f}" if column in row else "" for column in COLUMNS]
        click.echo(f"| {name} | " + " | ".join(cells) + " |")
    sys.exit(1 if wrong(rows["`sluice load --pattern constant`"]) else 0)


if __name__ == "__main__":
    main()
