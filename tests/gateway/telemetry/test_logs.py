from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from sluice.gateway.telemetry.logs import configure_logs, level, log, set_level
from tests import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    with logs.restored():
        yield


def test_json_lines_hold_facts_and_tracebacks() -> None:
    stream = io.StringIO()
    configure_logs("json", "info", stream)
    log.info("model ready", model="digits")
    logging.getLogger("uvicorn.error").warning("odd %s", "thing")
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        log.error("prediction", exc_info=error)
    log.debug("too fine")
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["model"], first["level"]) == ("model ready", "digits", "info")
    assert (second["event"], second["level"]) == ("odd thing", "warning")
    assert third["exception"][0]["exc_value"] == "broken"


def test_a_stream_that_is_no_terminal_gets_json_and_console_gets_text() -> None:
    stream = io.StringIO()
    configure_logs("auto", "info", stream)
    log.info("to a file")
    assert json.loads(stream.getvalue())["event"] == "to a file"
    stream = io.StringIO()
    configure_logs("console", "info", stream)
    log.info("to a person", model="digits")
    assert "to a person" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_libraries_say_at_debug_is_never_written() -> None:
    """hpack, for one, tells every header that comes in."""
    stream = io.StringIO()
    configure_logs("json", "debug", stream)
    assert level() == "debug"
    log.debug("ours")
    logging.getLogger("hpack.hpack").debug("Decoded %s", (b"authorization", b"Bearer abc"))
    logging.getLogger("anybody").info("theirs")
    set_level("warning")
    logging.getLogger("anybody").info("too fine")
    log.info("too fine")
    set_level("debug")
    logging.getLogger("anybody").debug("too fine")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["ours", "theirs"]
    assert level() == "debug"
