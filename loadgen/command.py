"""What `sluice load` does: prepare the requests, carry the run out, and report it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from sluice.inference.errors import StartError
from sluice.loadgen.arrivals import times
from sluice.loadgen.generator import Generator, Progress, SendingPlan
from sluice.loadgen.ledger import EndedRequests
from sluice.loadgen.model_input import metadata, model_path, random_bodies
from sluice.loadgen.order import Asked, arrivals, checked
from sluice.loadgen.report import Called, Report, report
from sluice.loadgen.target import Target, headers, request, target

MOST_BODY_BYTES = 256 << 20
"""The most bytes of all bodies together, which are kept in memory."""

NO_STORE = "no-store"
METADATA_TIMEOUT_S = 10.0


class Prepared(msgspec.Struct, frozen=True):
    """A run that can begin."""

    plan: SendingPlan
    called: Called


def prepare(asked: Asked) -> Prepared:
    """Read the bodies, or ask the server for the model's inputs and make some. Raises `StartError`."""
    load = checked(asked.load)
    if asked.model is None and not asked.body_files:
        raise StartError("what is to be sent? Give --model NAME or --body FILE")
    where = target(asked.url, asked.ca_file, insecure=asked.insecure)
    given = headers(asked.headers)
    path = where.path if asked.model is None else f"{model_path(where, asked.model)}/infer"
    bodies = _bodies(asked, where, given)
    extra = _with_cache_control(given, asked.cache)
    scheme = "http" if where.tls is None else "https"
    return Prepared(
        SendingPlan(
            target=where,
            requests=[request(where, path, extra, body) for body in bodies],
            due_s=times(arrivals(load), load.length_s, load.seed),
            connections=load.connections,
            timeout_s=load.timeout_s,
        ),
        Called(f"{scheme}://{where.address}{path}", len(bodies), sum(map(len, bodies)) / len(bodies), tuple(extra)),
    )


async def carry_out(
    asked: Asked, prepared: Prepared, watch: Callable[[Progress], None] | None
) -> tuple[Report, EndedRequests]:
    """The report of the run, and all of its requests. SIGINT ends it before its time. Raises `StartError`."""
    generator = Generator(prepared.plan)
    loop = asyncio.get_running_loop()
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # a second SIGINT ends the wait for the last answers
        generator.stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        carried = await generator.run(watch)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return report(prepared.called, asked.load, carried, started), carried.requests


def check_folder(option: str, file: Path | None) -> None:
    """Raises `StartError` for a file in a folder that is not there, so that nothing was measured in vain."""
    if file is not None and not file.parent.is_dir():
        raise StartError(f"{option} {file}: there is no folder {file.parent}")


def _bodies(asked: Asked, where: Target, given: Mapping[str, str]) -> Sequence[bytes]:
    if asked.body_files:
        bodies = [_read(file) for file in asked.body_files]
        _bounded(sum(map(len, bodies)))
        return bodies
    assert asked.model is not None
    drawn = random_bodies(
        metadata(where, asked.model, given, METADATA_TIMEOUT_S), asked.rows, asked.length, asked.load.seed
    )
    first = next(drawn)
    _bounded(len(first) * asked.distinct)
    return [first, *islice(drawn, asked.distinct - 1)]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartError(f"--body {file}: cannot be read: {error.strerror or error}") from error


def _bounded(size_bytes: int) -> None:
    if size_bytes > MOST_BODY_BYTES:
        raise StartError(f"the bodies take {size_bytes:,} bytes together, and {MOST_BODY_BYTES:,} is the most")


def _with_cache_control(given: Mapping[str, str], cache: bool) -> Mapping[str, str]:
    """What the caller says about caching stands; else a run without cache asks for every answer anew."""
    if cache or "cache-control" in [name.lower() for name in given]:
        return given
    return {**given, "Cache-Control": NO_STORE}
