"""Bodies for readers, and the readers' processes, for the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from sluice.gateway.dialects.base import Callee, Dialect
from sluice.gateway.messages import Header
from sluice.gateway.reading.codecs import number_of
from sluice.gateway.reading.pool import Readers
from sluice.gateway.reading.shared_body import SharedBody
from sluice.inference.types import InferenceRequest, Tensor
from tests.gateway.dialects.bodies import contents

PATIENCE_S = 60.0


@contextmanager
def shared(body: bytes) -> Iterator[SharedBody]:
    made = SharedBody()
    try:
        made.put(body)
        made.seal()
        yield made
    finally:
        made.close()


async def read(
    readers: Readers,
    dialect: Dialect,
    body: bytes,
    callee: Callee,
    headers: Sequence[Header] = (),
    patience_s: float = PATIENCE_S,
) -> InferenceRequest:
    """The request in a body, read by a reader."""
    number = number_of(dialect)
    assert number is not None
    with shared(body) as given:
        return (await readers.decode(number, given, headers, callee, time.monotonic() + patience_s)).request


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds, and let other tasks run until then."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


def pids() -> set[int]:
    """The readers of this process."""
    return {child.pid for child in psutil.Process().children() if is_reader(child)}


def is_reader(process: psutil.Process) -> bool:
    try:
        return any("sluice.gateway.reading" in argument for argument in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def stopped(*which: int) -> Iterator[None]:
    """Stop these processes until the block ends. Some of them may have ended by then."""
    for pid in which:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in which:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def facts(request: InferenceRequest) -> dict[str, Any]:
    """Everything in a request, to compare."""
    whole = {name: getattr(request, name) for name in request.__struct_fields__}
    return whole | {
        "inputs": [contents(tensor) for tensor in request.inputs],
        "parts": [[contents(tensor) for tensor in part] for part in request.parts],
        "parameters": dict(request.parameters),
        "reply": plain(request.reply),
    }


def plain(value: Any) -> Any:
    """A reply's kind and fields, whatever kinds of sequences and mappings hold them."""
    if isinstance(value, Tensor):
        return contents(value)
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return type(value).__name__, {name: plain(getattr(value, name)) for name in fields}
    if hasattr(value, "items"):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
