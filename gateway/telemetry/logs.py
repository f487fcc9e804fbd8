"""Structured logs: JSON lines for machines, or coloured text for people.

Standard-library loggers (uvicorn's, asyncio's, warnings) are written in the same form.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO, TypeAlias, cast
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor

from sluice.gateway.telemetry.log_writer import LogWriter
from sluice.gateway.telemetry.tracebacks import escaped, traceback_facts, unquoted, write_traceback
from sluice.inference.config.faults import MASK

log: structlog.stdlib.BoundLogger = structlog.get_logger("sluice")


SHORTEST_SECRET = 4
"""Shorter secrets are not masked: they occur in many lines by chance."""

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
"""The levels of the log."""

_writers: dict[int, LogWriter] = {}


def dropped_lines() -> int:
    """How many log lines of this process could not be written."""
    return sum([writer.dropped_lines for writer in _writers.values()])


def _writer_of(stream: TextIO) -> TextIO | LogWriter:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream  # it is in memory, and never blocks
    if descriptor not in _writers:
        _writers[descriptor] = LogWriter(descriptor)
    return _writers[descriptor]


def configure_logs(
    form: Literal["auto", "json", "console"], level: str, stream: TextIO | None = None, secrets: Iterable[str] = ()
) -> None:
    """Send every log line of the process to `stream` (standard error), once, in one form.

    `auto` means text for people if the stream is a terminal, and JSON otherwise. Logging never waits for a slow reader.
    No line contains one of the `secrets`, a value that an exception quotes, or a variable of the code. Debug lines of
    libraries are never written, whatever the level: some of them show headers and bodies of requests.
    """
    stream = stream or sys.stderr
    people = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        _bare_asyncio,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if people else "iso", utc=not people),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]
    logging.getLogger().handlers[:] = [_handler(stream, shared, Mask(secrets), people=people)]
    _set_levels(level.upper())
    _adopt_uvicorn()
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _handler(stream: TextIO, shared: Sequence[Processor], mask: Mask, *, people: bool) -> logging.Handler:
    """Writes every line to the stream, for people or as JSON. `shared` processes lines that are not structlog's."""
    renderer: list[Processor] = (
        [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), repr_native_str=True, exception_formatter=write_traceback
            ),
        ]
        if people
        else [structlog.processors.ExceptionRenderer(traceback_facts), structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(_writer_of(stream))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderer,
                cast(Processor, mask),
            ],
        )
    )
    return handler


def _adopt_uvicorn() -> None:
    """Have uvicorn's lines written as all others."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Sluice logs itself what uvicorn logs at "info". Warnings and errors of uvicorn are kept.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))


def log_what_nobody_catches() -> None:
    """Log exceptions of threads and destructors, which Python would write to standard error itself."""
    threading.excepthook = lambda ended: log.error(
        "a thread ended with an exception",
        thread=None if ended.thread is None else ended.thread.name,
        exc_info=ended.exc_value,
    )
    sys.unraisablehook = lambda ended: log.error(
        "an exception was raised where nothing can catch it", exc_info=ended.exc_value
    )


def _bare_asyncio(_: Any, __: str, event: EventDict) -> EventDict:
    """Remove quoted values from asyncio's own lines: they describe tasks together with their exceptions."""
    record = event.get("_record")
    if record is not None and record.name == "asyncio":
        event["event"] = unquoted(str(event["event"]))
    return event


def _on_one_line(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape the event: text for people shows it as it is, and quotes all other values."""
    event["event"] = escaped(str(event["event"]))
    return event


class Mask:
    """Replaces known secrets in every line before it is written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        self._known = sorted(known, key=len, reverse=True)

    def __call__(self, _: Any, __: str, line: str) -> str:
        """The line without secrets."""
        for secret in self._known:
            line = line.replace(secret, MASK)
        return line


def _forms(secret: str) -> Iterable[str]:
    return secret, quote(secret, safe=""), json.dumps(secret)[1:-1]


def level() -> Level:
    """The lowest level that is logged."""
    return cast(Level, logging.getLevelName(_own().getEffectiveLevel()).lower())


def set_level(lowest: Level) -> None:
    """Log lines of this level and above from now on."""
    _set_levels(lowest.upper())


def _own() -> logging.Logger:
    """The parent of all loggers of Sluice."""
    return logging.getLogger("sluice")


def _set_levels(lowest: str) -> None:
    _own().setLevel(lowest)
    logging.getLogger().setLevel(max(logging.INFO, _own().level))


def tell_of_redis(side: str, state: str, reason: str | None) -> None:
    """Log that the cache stops using Redis, with the reason, or that it uses Redis again."""
    if reason is None:
        log.info(f"cache {side} use Redis again", state=state)
    else:
        log.warning(f"cache {side} leave Redis alone: predictions go on without it", state=state, because=reason)
