"""A million spoiled inputs against real gateways, while workers and Redis break, and what must hold meanwhile.

Run by `make test-hostile`. `HOSTILE_SEED` makes a run again, `HOSTILE_SCALE=0.01` makes a short one.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest

from tests.hostile import frame_storm, http_storm, message_storm
from tests.hostile.control import control
from tests.hostile.faults import Faults
from tests.hostile.house import environment, odd_models, repository
from tests.hostile.plane_storm import Outcome
from tests.hostile.tally import HEADING, SCALE, SEED, Tally
from tests.hostile.watch import SLACK_BYTES, Watch, log_faults
from tests.integration.server import serving, with_grpc
from tests.redis_server import redis_server

STRUCTURE, HTTP, FRAMES, MESSAGES = 640_000, 240_000, 120_000, 50_000
"""Inputs of a whole run."""

SETTLING = 0.03
"""The share of each storm that comes first, before memory is looked at: caches fill, and allocators grow."""

CONTROL_MS, CONTROL_MOST_MS = 8.0, 15_000.0
"""How often the innocent caller calls, and the longest that it may wait: a batch on a worker that is stopped is run
again elsewhere after the run time-out, and the machine is kept busy."""

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(3600)]

Storm = Callable[[int, int, int], Coroutine[None, None, Tally]]


def test_the_structure_of_every_body(tmp_path: Path) -> None:
    """In one process, without sockets: nothing ends it, nothing is a 5xx, known calls are right, memory stays."""
    inputs = int(STRUCTURE * SCALE)
    models, log = repository(tmp_path / "models"), tmp_path / "log"
    odd_models(models)
    command = [
        sys.executable,
        "-m",
        "tests.hostile.plane_storm",
        str(models),
        str(inputs),
        str(SEED),
    ]
    started_s = time.monotonic()
    with log.open("w") as errors:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, env=environment(), check=False)
    assert run.returncode == 0, log.read_text()[-4000:]
    outcome = msgspec.json.decode(run.stdout, type=Outcome)
    tally = Tally("structure")
    tally.inputs, tally.answers = Counter(outcome.inputs), Counter(outcome.answers)
    tally.faults, tally.told, tally.worst_s = Counter(outcome.faults), outcome.told, outcome.worst_s
    tally.write(tmp_path)
    print(f"\nseed {SEED}, {time.monotonic() - started_s:.0f} s, {outcome.known:,} known calls")
    print(f"{HEADING}\n{tally.line()}\nmemory grew by {outcome.grown_bytes / 1e6:.0f} MB; faults are in {tmp_path}")
    assert not outcome.faults, outcome.faults
    assert not log_faults(log)
    assert outcome.grown_bytes < SLACK_BYTES


def test_storms_at_every_door(tmp_path: Path) -> None:
    """Over sockets, while workers and Redis break: no crash, no hang, no 5xx, no wrong answer, all is given back."""
    models, log = repository(tmp_path / "models"), tmp_path / "log"
    with redis_server(tmp_path / "redis") as redis:
        settings = environment(SLUICE_CACHE_REDIS_URL=redis.url)
        with (
            serving(models, *with_grpc(), env=settings, log=log) as server,
            control(server.port, server.grpc_port, CONTROL_MS) as innocent,
        ):
            watch = Watch(server, log)
            storms: list[tuple[Storm, int, int]] = [
                (http_storm.storm, server.port, HTTP),
                (message_storm.storm, server.grpc_port, MESSAGES),
                (frame_storm.storm, server.grpc_port, FRAMES),
            ]
            for storm, port, inputs in storms:
                asyncio.run(storm(port, int(inputs * SCALE * SETTLING) + 1, SEED + 1))
            start = watch.state()
            innocent.report()
            innocent.whole.clear()
            tallies: list[Tally] = []
            started_s = time.monotonic()
            with Faults(server, redis, SEED) as faults:
                for storm, port, inputs in storms:
                    tallies.append(asyncio.run(storm(port, int(inputs * SCALE * (1 - SETTLING)), SEED)))
                    tallies[-1].write(tmp_path)
                    innocent.report()
            seconds = time.monotonic() - started_s
            time.sleep(1)  # of quiet, in which the innocent caller is served as ever
            innocent.report()
            restarts = server.metric("sluice_worker_restarts_total")
            after = watch.back(start)
            alive = watch.alive()
            lines = [tally.line() for tally in tallies]
            calls = [
                f"| {door} | {each.sent:,} | {each.failed} | {each.wrong} | {each.quantile_ms(0.5):.1f} | "
                f"{each.quantile_ms(0.99):.0f} | {each.max_ms:.0f} |"
                for door, each in innocent.whole.items()
            ]
            print(f"\nseed {SEED}, {seconds:.0f} s", HEADING, *lines, sep="\n")
            print(
                "| control | calls | failed | wrong | p50 ms | p99 ms | longest ms |",
                "| --- " * 7 + "|",
                *calls,
                sep="\n",
            )
            print(f"faults made: {dict(faults.made)}; {restarts:.0f} workers replaced")
            print(f"start {start}\nafter {after}\nfaults are in {tmp_path}")
            found = [f"{tally.name}: {dict(tally.faults)}" for tally in tallies if tally.faults]
            found += watch.missed(start, after)
            found += [
                f"control over {door}: {each.failed} failed, {each.wrong} wrong, {each.max_ms:.0f} ms: {each.faults}"
                for door, each in innocent.whole.items()
                if each.failed or each.wrong or each.max_ms > CONTROL_MOST_MS
            ]
            lines = watch.log_faults()
            found += [f"{len(lines)} lines of the log: {lines[:3]}"] if lines else []
            assert alive, "the gateway has ended"
            assert server.client.get("/v2/health/ready").status_code == 200
            assert not found, "\n".join(found)
